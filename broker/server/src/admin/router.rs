//! Which request of the admin interface is which call of the service.
//! What must not live here: sockets.

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::service::view::{
    AddedRule, CheckAnswer, CheckRequest, NewRuleRequest, NewUserRequest, PasswordRequest,
    PluginView, ReloadedView, RemovedUserView, RuleView, Status, UserView,
};
use crate::service::{Fault, Service, ServiceError};

/// A refusal as JSON.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ErrorBody {
    /// What is wrong.
    pub error: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl IntoResponse for ServiceError {
    fn into_response(self) -> Response {
        let status = match self.fault {
            Fault::Invalid => StatusCode::BAD_REQUEST,
            Fault::NotFound => StatusCode::NOT_FOUND,
            Fault::Conflict => StatusCode::CONFLICT,
            Fault::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Fault::Failed => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, Json(ErrorBody { error: self.error, hint: self.hint })).into_response()
    }
}

/// All requests. Names in paths are percent-encoded.
pub(crate) fn router(service: Arc<Service>) -> Router {
    let tenant = Router::new()
        .route("/users", get(user_list).post(user_add))
        .route("/users/{name}", delete(user_remove))
        .route("/users/{name}/password", put(user_set_password))
        .route("/rules", get(rule_list).post(rule_add))
        .route("/rules/{id}", delete(rule_remove))
        .route("/check", post(check));
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/reload", post(reload))
        .route("/v1/plugins", get(plugin_list))
        .nest("/v1/tenants/{tenant}", tenant)
        .fallback(async || ServiceError::new(Fault::NotFound, "no such request"))
        .method_not_allowed_fallback(async || ServiceError::new(Fault::Invalid, "no such method"))
        .layer(middleware::from_fn(to_the_end))
        .with_state(service)
}

/// Handles a request to its end, also when whoever asked has left meanwhile: a change that is in
/// the directory is in force.
async fn to_the_end(request: Request, next: Next) -> Response {
    match tokio::spawn(next.run(request)).await {
        Ok(response) => response,
        Err(error) => {
            ServiceError::new(Fault::Failed, format!("the request failed: {error}")).into_response()
        }
    }
}

type Served = State<Arc<Service>>;
type Answer<T> = Result<Json<T>, ServiceError>;

/// An answer that says no more than "done".
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Done {}

/// The body, or what is wrong with it.
fn body<T: DeserializeOwned>(bytes: &Bytes) -> Result<T, ServiceError> {
    serde_json::from_slice(bytes).map_err(|error| {
        ServiceError::new(Fault::Invalid, format!("the request's body is not usable: {error}"))
    })
}

async fn status(State(service): Served) -> Answer<Status> {
    service.status().await.map(Json)
}

async fn reload(State(service): Served) -> Answer<Vec<ReloadedView>> {
    service.reload().await.map(Json)
}

async fn plugin_list(State(service): Served) -> Answer<Vec<PluginView>> {
    Ok(Json(service.plugin_list()))
}

async fn user_list(State(service): Served, Path(tenant): Path<String>) -> Answer<Vec<UserView>> {
    let tenant = service.tenant(&tenant).await?;
    service.user_list(tenant).await.map(Json)
}

async fn user_add(
    State(service): Served,
    Path(tenant): Path<String>,
    bytes: Bytes,
) -> Answer<Done> {
    let tenant = service.tenant(&tenant).await?;
    let request: NewUserRequest = body(&bytes)?;
    service.user_add(tenant, request).await?;
    Ok(Json(Done {}))
}

async fn user_remove(
    State(service): Served,
    Path((tenant, name)): Path<(String, String)>,
) -> Answer<RemovedUserView> {
    let tenant = service.tenant(&tenant).await?;
    service.user_remove(tenant, &name).await.map(Json)
}

async fn user_set_password(
    State(service): Served,
    Path((tenant, name)): Path<(String, String)>,
    bytes: Bytes,
) -> Answer<Done> {
    let tenant = service.tenant(&tenant).await?;
    let request: PasswordRequest = body(&bytes)?;
    service.user_set_password(tenant, &name, &request).await?;
    Ok(Json(Done {}))
}

async fn rule_list(State(service): Served, Path(tenant): Path<String>) -> Answer<Vec<RuleView>> {
    let tenant = service.tenant(&tenant).await?;
    service.rule_list(tenant).await.map(Json)
}

async fn rule_add(
    State(service): Served,
    Path(tenant): Path<String>,
    bytes: Bytes,
) -> Answer<AddedRule> {
    let tenant = service.tenant(&tenant).await?;
    let request: NewRuleRequest = body(&bytes)?;
    service.rule_add(tenant, request).await.map(Json)
}

async fn rule_remove(
    State(service): Served,
    Path((tenant, id)): Path<(String, String)>,
) -> Answer<Done> {
    let tenant = service.tenant(&tenant).await?;
    let id = id.parse().map_err(|_| {
        ServiceError::invalid(format!("\"{id}\" is not the number of a rule"), "see /rules")
    })?;
    service.rule_remove(tenant, id).await?;
    Ok(Json(Done {}))
}

async fn check(
    State(service): Served,
    Path(tenant): Path<String>,
    bytes: Bytes,
) -> Answer<CheckAnswer> {
    let tenant = service.tenant(&tenant).await?;
    let request: CheckRequest = body(&bytes)?;
    service.check(tenant, request).await.map(Json)
}
