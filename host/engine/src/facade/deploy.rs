//! Deploying and inspecting components.

use std::sync::Arc;

use relive_core::{
    Error, ErrorKind, Json, Namespace,
    ids::check_name,
    ports::{ActivityRow, ComponentMeta, Implementation, VersionRow},
};

use super::lookup::store_error;
use crate::{
    engine::Engine,
    guests::Described,
    message::Message,
    requests::{DeployActivityRequest, DeployHttpRequest, DeployRequest},
    views::{ActivityView, Deployed, DeployedWorkflow},
};

fn invalid(error: &relive_core::ids::NameError) -> Error {
    Error::new(ErrorKind::Validation, "invalid-name", error.to_string())
}

impl Engine {
    /// Admits a component and makes its workflows' new versions the active ones. The same bytes are the same version.
    pub async fn deploy(&self, request: DeployRequest) -> Result<Deployed, Error> {
        self.accepting()?;
        self.blocking(move |engine| engine.deploy_now(&request)).await
    }

    fn deploy_now(&self, request: &DeployRequest) -> Result<Deployed, Error> {
        let admitted = self.context.guests.admit(&request.bytes)?;
        let names = deploy_names(&admitted.workflows, request.name.as_deref())?;
        let now = self.context.clock.now();
        let meta = ComponentMeta {
            digest: admitted.digest,
            size: request.bytes.len() as u64,
            inspection: admitted.inspection.clone(),
            added_at: now,
        };
        self.context.catalog.put_component(&meta, &request.bytes).map_err(store_error)?;
        let mut workflows = Vec::with_capacity(names.len());
        for (name, described) in names {
            let row = VersionRow {
                workflow: name.clone(),
                version: 0,
                digest: admitted.digest,
                export: described.name.as_str().into(),
                input_schema: described.input_schema.clone(),
                output_schema: described.output_schema.clone(),
                active: true,
                deployed_at: now,
            };
            let row = self.context.catalog.deploy(&request.namespace, &row).map_err(store_error)?;
            self.context.workflows.changed(&request.namespace, &name);
            tracing::info!(workflow = %name, version = row.version, digest = %row.digest.short(), "deployed");
            workflows.push(DeployedWorkflow { name: name.to_string(), version: row.version });
        }
        Ok(Deployed { digest: admitted.digest, workflows, inspection: admitted.inspection })
    }

    /// Admits an activity and makes it the one that runs under its name. Returns what admission found out.
    pub async fn deploy_activity(&self, request: DeployActivityRequest) -> Result<Json, Error> {
        self.accepting()?;
        self.blocking(move |engine| {
            check_name(&request.name, "activity name").map_err(|e| invalid(&e))?;
            let context = &engine.context;
            let admitted = context.activity_host.admit(&request.bytes, &request.name, request.grants.as_ref())?;
            let now = context.clock.now();
            let size = request.bytes.len() as u64;
            let meta =
                ComponentMeta { digest: admitted.digest, size, inspection: admitted.inspection.clone(), added_at: now };
            context.catalog.put_component(&meta, &request.bytes).map_err(store_error)?;
            let name: Arc<str> = request.name.as_str().into();
            let implementation = Implementation::Wasm { digest: admitted.digest, grants: admitted.grants };
            let row = ActivityRow { name, implementation, deployed_at: now };
            context.catalog.put_activity(&request.namespace, &row).map_err(store_error)?;
            engine.activity_deployed(&request.namespace, &request.name);
            Ok(admitted.inspection)
        })
        .await
    }

    /// Makes a URL the activity that runs under its name.
    pub async fn deploy_http_activity(&self, request: DeployHttpRequest) -> Result<ActivityView, Error> {
        self.accepting()?;
        self.blocking(move |engine| {
            check_name(&request.name, "activity name").map_err(|e| invalid(&e))?;
            let context = &engine.context;
            let config = context.activity_host.admit_http(&request.config)?;
            let row = ActivityRow {
                name: request.name.as_str().into(),
                implementation: Implementation::Http { config },
                deployed_at: context.clock.now(),
            };
            context.catalog.put_activity(&request.namespace, &row).map_err(store_error)?;
            engine.activity_deployed(&request.namespace, &request.name);
            Ok(engine.activity_view(&request.namespace, row))
        })
        .await
    }

    /// From now on this host runs the activity; also what waited for a worker until now.
    fn activity_deployed(&self, namespace: &Namespace, name: &str) {
        let context = &self.context;
        context.activity_host.deployed(namespace, name);
        for task in context.remote.queues.ready_of(namespace, name) {
            context.registry.post(task.run, Message::Alarm { command_no: task.command_no });
        }
    }

    /// Says what a component is, without keeping it.
    pub async fn inspect(&self, bytes: Vec<u8>) -> Result<Json, Error> {
        self.blocking(move |engine| Ok(engine.context.guests.admit(&bytes)?.inspection)).await
    }

    /// The versions of one workflow, or of all.
    pub async fn versions(&self, namespace: Namespace, workflow: Option<String>) -> Result<Vec<VersionRow>, Error> {
        self.blocking(move |engine| {
            engine.context.catalog.versions(&namespace, workflow.as_deref()).map_err(store_error)
        })
        .await
    }

    /// The activities that the host runs itself.
    pub async fn activities(&self, namespace: Namespace) -> Result<Vec<ActivityView>, Error> {
        self.blocking(move |engine| {
            let rows = engine.context.catalog.activities(&namespace).map_err(store_error)?;
            Ok(rows.into_iter().map(|row| engine.activity_view(&namespace, row)).collect())
        })
        .await
    }

    /// The public keys that requests to http activities are signed with, as a JWK set.
    #[must_use]
    pub fn activity_keys(&self) -> Json {
        self.context.activity_host.keys()
    }

    fn activity_view(&self, namespace: &Namespace, row: ActivityRow) -> ActivityView {
        let standing = self.context.activity_host.standing(namespace, &row);
        let kind = row.implementation.kind();
        let (digest, grants, http) = match row.implementation {
            Implementation::Wasm { digest, grants } => (Some(digest), Some(grants), None),
            Implementation::Http { config } => (None, None, Some(config)),
        };
        ActivityView {
            name: row.name.to_string(),
            kind,
            target: standing.target,
            breaker: standing.breaker,
            concurrency: standing.concurrency,
            digest,
            grants,
            http,
            deployed_at: row.deployed_at,
        }
    }
}

/// Under which name each workflow of a component is deployed.
fn deploy_names<'a>(workflows: &'a [Described], name: Option<&str>) -> Result<Vec<(Arc<str>, &'a Described)>, Error> {
    let error = |code, message: String| Err(Error::new(ErrorKind::Validation, code, message));
    match (name, workflows) {
        (_, []) => error(
            "no-workflow",
            "the component holds no workflow; deploy activities by `relive deploy DIR` with a relive.toml".to_owned(),
        ),
        (Some(name), [only]) => {
            check_name(name, "workflow name").map_err(|e| invalid(&e))?;
            Ok(vec![(name.into(), only)])
        }
        (Some(name), many) => {
            let Some(one) = many.iter().find(|w| w.name == name) else {
                let held: Vec<_> = many.iter().map(|w| w.name.as_str()).collect();
                return error(
                    "name-not-exported",
                    format!("the component holds {}; deploy it without a name, or name one of them", held.join(", ")),
                );
            };
            Ok(vec![(name.into(), one)])
        }
        (None, all) => Ok(all.iter().map(|w| (w.name.as_str().into(), w)).collect()),
    }
}
