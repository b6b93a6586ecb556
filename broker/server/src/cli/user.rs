//! `wasmqtt user`: who may log in, listed and changed.
//! What must not live here: how users are stored.

use std::path::Path;

use crate::admin::client::segment;
use crate::admin::router::Done;
use crate::cli::arguments::{Kind, User, UserAdd};
use crate::cli::failure::Failure;
use crate::cli::output::{json, say, table, utc};
use crate::cli::password;
use crate::cli::session::{Needs, Session};
use crate::service::view::{NewUserRequest, PasswordRequest, RemovedUserView, UserView};

/// Runs one of the commands. A password is asked for before anything is locked.
pub(crate) async fn run(directory: &Path, command: User, as_json: bool) -> Result<(), Failure> {
    match command {
        User::Add(add) => {
            let UserAdd { name, roles, kind, password } = add;
            let password = Some(password::read(&password, &name)?);
            let kind = match kind {
                Kind::User => "user",
                Kind::Device => "device",
                Kind::Admin => "admin",
            };
            let session = Session::open(directory, Needs::Directory).await?;
            let request =
                NewUserRequest { name: name.clone(), kind: kind.to_owned(), roles, password };
            let Done {} = session.tenant_post("/users", &request).await?;
            say(format!("added {kind} {name}"))
        }
        User::Rm { name } => {
            let session = Session::open(directory, Needs::Directory).await?;
            let path = format!("/users/{}", segment(&name));
            let RemovedUserView { rules_left } = session.tenant_delete(&path).await?;
            say(match rules_left {
                0 => format!("removed {name}"),
                1 => format!("removed {name}; one rule still names it (acl list)"),
                more => format!("removed {name}; {more} rules still name it (acl list)"),
            })
        }
        User::Passwd { name, password } => {
            let password = password::read(&password, &name)?;
            let session = Session::open(directory, Needs::Directory).await?;
            let path = format!("/users/{}/password", segment(&name));
            let Done {} = session.tenant_put(&path, &PasswordRequest { password }).await?;
            say(format!("{name} has the new password; the old one is void"))
        }
        User::List => {
            let session = Session::open(directory, Needs::Directory).await?;
            let users: Vec<UserView> = session.tenant_get("/users").await?;
            if as_json {
                return json(&users);
            }
            if users.is_empty() {
                return say("no users; add one: wasmqtt -C DIR user add NAME");
            }
            let rows: Vec<[String; 5]> = users
                .into_iter()
                .map(|user| {
                    let state = if user.enabled { "enabled" } else { "disabled" };
                    let roles = user.roles.join(", ");
                    [user.name, user.kind, state.to_owned(), roles, utc(user.created_at)]
                })
                .collect();
            say(table(["NAME", "KIND", "STATE", "ROLES", "CREATED"], &rows))
        }
    }
}
