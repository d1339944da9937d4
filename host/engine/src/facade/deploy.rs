//! Deploying and inspecting components.

use std::sync::Arc;

use relive_core::{
    Digest, Error, ErrorKind, Json, Namespace,
    ids::check_name,
    ports::{ActivityRow, CanaryLimits, ComponentMeta, Implementation, VersionRow},
};

use tokio::sync::mpsc;

use super::lookup::store_error;
use crate::{
    diff::changes,
    engine::Engine,
    guests::Described,
    message::Message,
    requests::{DeployActivityRequest, DeployHttpRequest, DeployRequest},
    signers::Kind,
    versions::{Activate, ActivateRequest, ActivationView, Change},
    views::{ActivityView, Deployed, DeployedWorkflow},
};

/// What whoever deploys hears.
#[derive(Debug)]
pub enum DeployTold {
    /// What is through: `received`, `checked`, `compiled`, `described`.
    Stage(&'static str),
    Deployed(Box<Deployed>),
    Failed(Error),
}

/// What is told and not taken.
const STAGES: usize = 8;

fn invalid(error: &relive_core::ids::NameError) -> Error {
    Error::new(ErrorKind::Validation, "invalid-name", error.to_string())
}

impl Engine {
    /// Admits a component, adds its workflows' new versions, and has new runs take them, as the request says. The same bytes
    /// are the same version.
    pub async fn deploy(&self, request: DeployRequest) -> Result<Deployed, Error> {
        self.accepting()?;
        self.blocking(move |engine| engine.deploy_now(&request)).await
    }

    /// The same; what is through comes over the channel, and last what was deployed or why not. It goes on to its end also if
    /// the channel is dropped.
    pub async fn deploy_told(&self, request: DeployRequest) -> Result<mpsc::Receiver<DeployTold>, Error> {
        self.accepting()?;
        let (told, heard) = mpsc::channel(STAGES);
        let begun = self.clone();
        let run = move |_: &Arc<crate::context::Context>| {
            // Whoever asked may have hung up.
            let stage = |stage| drop(told.blocking_send(DeployTold::Stage(stage)));
            let last = match begun.deploy_with(&request, &stage) {
                Ok(deployed) => DeployTold::Deployed(Box::new(deployed)),
                Err(error) => DeployTold::Failed(error),
            };
            let _ = told.blocking_send(last);
        };
        let spawned = self.spawn("relive-deploy", run);
        spawned.map_err(|e| Error::new(ErrorKind::Unknown, "internal", format!("failed to start a thread: {e}")))?;
        Ok(heard)
    }

    fn deploy_now(&self, request: &DeployRequest) -> Result<Deployed, Error> {
        self.deploy_with(request, &|_| {})
    }

    fn deploy_with(&self, request: &DeployRequest, told: &dyn Fn(&'static str)) -> Result<Deployed, Error> {
        if let Some(expected) = request.digest.filter(|digest| *digest != Digest::of(&request.bytes)) {
            let message = format!(
                "the bytes that arrived have the digest {}, not {expected} as was said: send them again",
                Digest::of(&request.bytes)
            );
            return Err(Error::new(ErrorKind::Validation, "wrong-digest", message));
        }
        let what = (Kind::Workflow, &request.namespace, request.name.as_deref());
        let signers = &self.context.config.signers;
        let signed_by = signers.check(what, &Digest::of(&request.bytes), &request.signatures)?;
        told("received");
        let admitted = self.context.guests.admit_told(&request.bytes, told)?;
        told("described");
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
                workflow: name,
                version: 0,
                digest: admitted.digest,
                export: described.name.as_str().into(),
                input_schema: described.input_schema.clone(),
                output_schema: described.output_schema.clone(),
                active: false,
                deployed_at: now,
                author: request.signed.author.clone(),
                note: request.note.as_deref().map(Arc::from),
                signed_by: signed_by.clone(),
            };
            workflows.push(self.deploy_version(request, &row, &admitted.inspection)?);
        }
        Ok(Deployed { digest: admitted.digest, workflows, inspection: admitted.inspection })
    }

    fn deploy_version(
        &self,
        request: &DeployRequest,
        row: &VersionRow,
        inspection: &Json,
    ) -> Result<DeployedWorkflow, Error> {
        let (context, namespace, name) = (&self.context, &request.namespace, &row.workflow);
        let before = context.catalog.standing(namespace, name).map_err(store_error)?;
        let changes = match before.as_ref().filter(|before| before.active.digest != row.digest) {
            Some(before) => self.changes_since(&before.active.digest, inspection)?,
            None => Vec::new(),
        };
        let row = context.catalog.add_version(namespace, row).map_err(store_error)?;
        tracing::info!(workflow = %name, version = row.version, digest = %row.digest.short(), "deployed");
        let (share, limits) = match request.activate {
            Activate::Whole => (None, CanaryLimits::default()),
            Activate::Canary(share, limits) => (Some(share), limits),
            Activate::Not => {
                return Ok(DeployedWorkflow {
                    name: name.to_string(),
                    version: row.version,
                    activation: None,
                    changes,
                });
            }
        };
        let activation = self.activate_now(&ActivateRequest {
            namespace: namespace.clone(),
            workflow: name.to_string(),
            version: row.version,
            share,
            limits,
            signed: request.signed.clone(),
        })?;
        let activation = Some(ActivationView::from(activation));
        Ok(DeployedWorkflow { name: name.to_string(), version: row.version, activation, changes })
    }

    /// What a component changes of the one that new runs take now.
    fn changes_since(&self, active: &Digest, inspection: &Json) -> Result<Vec<Change>, Error> {
        let Some(meta) = self.context.catalog.component_meta(active).map_err(store_error)? else {
            return Ok(Vec::new());
        };
        let parse = |json: &Json| serde_json::from_str(json.as_str()).unwrap_or_default();
        Ok(changes(&parse(&meta.inspection), &parse(inspection)))
    }

    /// Admits an activity and makes it the one that runs under its name. Returns what admission found out.
    pub async fn deploy_activity(&self, request: DeployActivityRequest) -> Result<Json, Error> {
        self.accepting()?;
        self.blocking(move |engine| {
            check_name(&request.name, "activity name").map_err(|e| invalid(&e))?;
            let context = &engine.context;
            let what = (Kind::Activity, &request.namespace, Some(&*request.name));
            context.config.signers.check(what, &Digest::of(&request.bytes), &request.signatures)?;
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
