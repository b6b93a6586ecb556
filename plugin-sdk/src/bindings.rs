//! The generated component-model bindings, one world per hook, and nothing else: what authors use is
//! in the other files.
//!
//! A world can't export an interface only when asked, so each hook has a world of its own, and
//! `export!` of a plugin expands the export macros of the hooks it names. Each of them brings its
//! own component-type section along, and the tool that makes the component merges them.

#![allow(
    unsafe_code,
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    elided_lifetimes_in_paths,
    clippy::all,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "generated code: it lowers and lifts values across the component boundary"
)]

/// What a plugin may import: the types with their resources, and the host services.
pub mod imports {
    wit_bindgen::generate!({
        inline: "
            package wasmqtt:sdk-imports;
            world imports {
                import wasmqtt:plugin/types@0.1.0;
                include wasmqtt:plugin/services@0.1.0;
            }
        ",
        path: "wit/0.1.0",
        world: "wasmqtt:sdk-imports/imports",
        generate_all,
    });
}

/// The same of what version 0.2.0 adds.
pub mod additions {
    wit_bindgen::generate!({
        inline: "
            package wasmqtt:sdk-additions;
            world additions {
                import wasmqtt:plugin/exchanges@0.2.0;
                import wasmqtt:plugin/random@0.2.0;
            }
        ",
        path: ["wit/0.1.0", "wit/0.2.0"],
        world: "wasmqtt:sdk-additions/additions",
        generate_all,
    });
}

macro_rules! hook_world {
    ($module:ident, $export_macro:literal, $bindings:literal, $world:literal, $inline:literal) => {
        pub mod $module {
            wit_bindgen::generate!({
                inline: $inline,
                path: "wit/0.1.0",
                world: $world,
                with: { "wasmqtt:plugin/types@0.1.0": crate::bindings::imports::wasmqtt::plugin::types },
                pub_export_macro: true,
                export_macro_name: $export_macro,
                default_bindings_module: $bindings,
            });
        }
    };
}

hook_world!(
    lifecycle,
    "export_lifecycle",
    "wasmqtt_plugin::bindings::lifecycle",
    "wasmqtt:sdk-lifecycle/lifecycle",
    "package wasmqtt:sdk-lifecycle; world lifecycle { export wasmqtt:plugin/lifecycle@0.1.0; }"
);
hook_world!(
    authenticate,
    "export_authenticate",
    "wasmqtt_plugin::bindings::authenticate",
    "wasmqtt:sdk-authenticate/authenticate",
    "package wasmqtt:sdk-authenticate; world authenticate { export wasmqtt:plugin/authenticate@0.1.0; }"
);
hook_world!(
    authorize,
    "export_authorize",
    "wasmqtt_plugin::bindings::authorize",
    "wasmqtt:sdk-authorize/authorize",
    "package wasmqtt:sdk-authorize; world authorize { export wasmqtt:plugin/authorize@0.1.0; }"
);
hook_world!(
    on_publish,
    "export_on_publish",
    "wasmqtt_plugin::bindings::on_publish",
    "wasmqtt:sdk-on-publish/on-publish",
    "package wasmqtt:sdk-on-publish; world on-publish { export wasmqtt:plugin/on-publish@0.1.0; }"
);

pub mod auth_exchange {
    wit_bindgen::generate!({
        inline: "package wasmqtt:sdk-auth-exchange; world auth-exchange { export wasmqtt:plugin/auth-exchange@0.2.0; }",
        path: ["wit/0.1.0", "wit/0.2.0"],
        world: "wasmqtt:sdk-auth-exchange/auth-exchange",
        with: {
            "wasmqtt:plugin/types@0.1.0": crate::bindings::imports::wasmqtt::plugin::types,
            "wasmqtt:plugin/exchanges@0.2.0": crate::bindings::additions::wasmqtt::plugin0_2_0::exchanges,
        },
        pub_export_macro: true,
        export_macro_name: "export_auth_exchange",
        default_bindings_module: "wasmqtt_plugin::bindings::auth_exchange",
    });
}
