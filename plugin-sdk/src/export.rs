//! The `export!` macro; what it expands to inside a component is in `glue` and `bindings`.

/// Makes the crate a plugin: exports the named hooks, and nothing else, and embeds `plugin.toml`
/// from the crate's root as the component's manifest.
///
/// ```ignore
/// wasmqtt_plugin::export!(MyPlugin: Authenticate, OnPublish);
/// ```
///
/// Call it once, at the crate's root, in a crate of type `["cdylib", "lib"]`. It expands to
/// generated `unsafe` code, so the crate can `deny` but not `forbid` it. Natively it only checks
/// that the hooks are implemented and that `plugin.toml` is there.
#[macro_export]
macro_rules! export {
    ($plugin:ty: $($hook:ident),* $(,)?) => {
        const _: () = {
            const fn implements_its_hooks<P: $crate::Plugin $(+ $crate::$hook)*>() {}
            implements_its_hooks::<$plugin>();
        };

        #[allow(unsafe_code, reason = "a custom section has to be named by an unsafe attribute")]
        const _: () = {
            const MANIFEST: &[u8] =
                include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/plugin.toml"));
            // SAFETY: a custom section is data that is never loaded; no other crate uses the name.
            #[cfg(target_arch = "wasm32")]
            #[used]
            #[unsafe(link_section = "wasmqtt:manifest")]
            static SECTION: [u8; MANIFEST.len()] = *MANIFEST.first_chunk().unwrap();
        };

        #[cfg(target_arch = "wasm32")]
        #[allow(unsafe_code, reason = "the generated exports lift and lower raw values")]
        const _: () = {
            ::std::thread_local! {
                static SLOT: $crate::glue::Slot<$plugin> = const { ::std::cell::RefCell::new(None) };
            }

            struct Component;

            impl $crate::glue::Component for Component {
                type Plugin = $plugin;
                fn slot() -> &'static ::std::thread::LocalKey<$crate::glue::Slot<$plugin>> {
                    &SLOT
                }
            }

            $crate::bindings::lifecycle::export_lifecycle!(
                Component with_types_in $crate::bindings::lifecycle
            );
            $($crate::__export_hook!($hook);)*
        };
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __export_hook {
    (Authenticate) => {
        $crate::bindings::authenticate::export_authenticate!(
            Component with_types_in $crate::bindings::authenticate
        );
    };
    (Authorize) => {
        $crate::bindings::authorize::export_authorize!(
            Component with_types_in $crate::bindings::authorize
        );
    };
    (AuthExchange) => {
        $crate::bindings::auth_exchange::export_auth_exchange!(
            Component with_types_in $crate::bindings::auth_exchange
        );
    };
    (OnPublish) => {
        $crate::bindings::on_publish::export_on_publish!(
            Component with_types_in $crate::bindings::on_publish
        );
    };
}
