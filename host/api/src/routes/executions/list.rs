//! `GET /executions`: newest first, filtered, a page at a time, or as it changes.

use axum::{
    Extension, Json,
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use relive_core::{
    WorkflowId,
    ports::{ListFilter, Status},
};
use relive_engine::{
    Engine, FollowList, ListChange, schema,
    views::{ExecutionView, Executions},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{
    connection::Connection,
    extract::{NamespacePath, Query},
    page::{self, List, Paging},
    problem::Problem,
    sse::{self, Next, Source, Text},
};

const DEFAULT_LIMIT: usize = 50;

/// A page of executions, newest first.
#[derive(Serialize, ToSchema)]
pub struct ExecutionPage {
    executions: Vec<ExecutionView>,
    /// The `cursor` of the next page; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

impl From<Executions> for ExecutionPage {
    fn from(found: Executions) -> Self {
        let next_cursor = found.next.map(|key| page::encode(List::Executions, &key));
        Self { executions: found.executions, next_cursor }
    }
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Only executions of this workflow.
    workflow: Option<String>,
    /// Only runs of this workflow id.
    workflow_id: Option<String>,
    /// Only executions that stand like this.
    #[param(value_type = Option<schema::Status>)]
    status: Option<String>,
    /// Stay, and send what comes as server-sent events, also asked for by `Accept: text/event-stream`: the first page,
    /// then executions that begin, end, are blocked or unblocked. Those that leave the filter's status are sent, too; what
    /// other hosts of a cluster do comes within a second or so, of the newest 1,000.
    #[serde(default)]
    follow: bool,
    /// Executions a page; more is cut to 1,000.
    #[param(minimum = 1, maximum = 1000, default = 50)]
    limit: Option<usize>,
    /// The `next_cursor` of the page before.
    #[param(max_length = 2048)]
    cursor: Option<String>,
}

/// Executions, newest first
#[utoipa::path(
    get,
    path = "/executions",
    tag = "executions",
    operation_id = "list-executions",
    params(ListQuery),
    responses((
        status = 200,
        description = "A page of the list; or `snapshot` (an ExecutionPage), then `execution` (an ExecutionView) after `execution`",
        content((ExecutionPage = "application/json"), (String = "text/event-stream")),
    )),
    extensions(("x-problems" = json!(["invalid-cursor"])))
)]
pub async fn list(
    State(engine): State<Engine>,
    NamespacePath(namespace): NamespacePath,
    Query(query): Query<ListQuery>,
    connection: Option<Extension<Connection>>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let workflow_id = query.workflow_id.as_deref().map(WorkflowId::new).transpose();
    let filter = ListFilter {
        namespace: Some(namespace),
        workflow: query.workflow,
        workflow_id: workflow_id.map_err(|e| Problem::invalid("invalid-name", e.to_string()))?,
        status: query.status.as_deref().map(status).transpose()?,
    };
    let paging = Paging::new(query.limit, query.cursor);
    let limit = paging.limit(DEFAULT_LIMIT);
    if sse::is_wanted(&headers, query.follow) {
        let back = sse::last_event::<(u64, u64)>(&headers, List::Changes)?;
        let follow = engine.follow_list(filter.clone(), back);
        return Ok(sse::answer(Changes { engine, filter, limit, follow, snapshot: back.is_none() }, connection));
    }
    let found = engine.list(filter, paging.position(List::Executions)?, limit).await?;
    Ok(Json(ExecutionPage::from(found)).into_response())
}

/// The list as it changes.
struct Changes {
    engine: Engine,
    filter: ListFilter,
    limit: usize,
    follow: FollowList,
    /// The client needs the list itself.
    snapshot: bool,
}

impl Changes {
    fn id(&self) -> String {
        page::encode(List::Changes, &self.follow.place())
    }

    async fn send_list(&mut self, out: &mut Text) -> Result<Next, Problem> {
        self.follow.skip_to_now().await?;
        let id = self.id();
        let found = self.engine.list(self.filter.clone(), None, self.limit).await?;
        out.event("snapshot", Some(&id), &ExecutionPage::from(found))?;
        self.snapshot = false;
        Ok(Next::Read)
    }
}

impl Source for Changes {
    async fn read(&mut self, out: &mut Text) -> Result<Next, Problem> {
        if self.snapshot {
            return self.send_list(out).await;
        }
        let before = self.follow.place();
        match self.follow.read(sse::CHUNK).await? {
            ListChange::Reload => self.send_list(out).await,
            ListChange::Executions(changed) => {
                // The id of all but the last is the place before: who comes back in between gets the others again.
                let (earlier, id) = (page::encode(List::Changes, &before), self.id());
                for (n, execution) in changed.iter().enumerate() {
                    let id = if n + 1 == changed.len() { &id } else { &earlier };
                    out.event("execution", Some(id), execution)?;
                }
                Ok(if self.follow.place() == before { Next::Wait } else { Next::Read })
            }
        }
    }

    async fn changed(&mut self) {
        self.follow.changed().await;
    }
}

fn status(name: &str) -> Result<Status, Problem> {
    Status::from_name(name).ok_or_else(|| {
        let known = Status::ALL.map(Status::name).join(", ");
        Problem::invalid("invalid-query", format!("there is no status {name:?}; there are {known}"))
    })
}
