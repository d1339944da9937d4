//! Deployment of activities: the engine's port over the sandbox, the hosts of activities and the registry.

use relive_activity::{
    ActivityRegistry, Breaker, BreakerPolicy, DeployError, GrantError, Grants, HttpConfig, HttpConfigError, HttpHost,
    Protection, WasmHost,
};
use relive_core::{
    Error, ErrorKind, Json, Namespace,
    ports::{ActivityRow, Implementation},
};
use relive_engine::{
    ActivityHost, AdmittedActivity, LoadedActivity, Standing, inspection_view,
    views::{BreakerPolicyView, BreakerView},
};
use relive_sandbox::{AdmissionError, AdmittedComponent, Sandbox};

/// Admits activities and tells the registry of deployments.
pub struct DeployedActivities {
    pub sandbox: Sandbox,
    pub wasm: WasmHost,
    pub http: HttpHost,
    pub registry: ActivityRegistry,
}

fn refused(error: &AdmissionError) -> Error {
    Error::new(ErrorKind::Validation, error.code(), format!("failed to {error}"))
}

fn not_deployable(error: &DeployError) -> Error {
    Error::new(ErrorKind::Validation, error.code(), format!("failed to {error}"))
}

fn not_granted(error: &GrantError) -> Error {
    Error::new(ErrorKind::Validation, "invalid-grants", format!("failed to {error}"))
}

fn not_callable(error: &HttpConfigError) -> Error {
    Error::new(ErrorKind::Validation, "invalid-http-activity", format!("failed to {error}"))
}

/// Whom a deployment leads to, and how it spares them. What the catalog holds was checked.
fn told(implementation: &Implementation) -> (String, Protection) {
    match implementation {
        Implementation::Wasm { digest, grants } => {
            (digest.short(), Grants::from_json(grants).unwrap_or_default().protection())
        }
        Implementation::Http { config } => {
            HttpConfig::from_json(config).map(|c| (c.target(), c.protection())).unwrap_or_default()
        }
    }
}

fn policy_view(policy: BreakerPolicy) -> BreakerPolicyView {
    let millis = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    BreakerPolicyView {
        window_ms: millis(policy.window),
        min_calls: policy.min_calls,
        failure_percent: policy.fault_percent,
        open_ms: millis(policy.open),
        max_open_ms: millis(policy.max_open),
        probes: policy.probes,
    }
}

fn standing_of(breaker: &Breaker, concurrency: Option<usize>) -> Standing {
    let view = breaker.view();
    let seen = BreakerView {
        state: view.state.as_str(),
        failures: view.faults,
        calls: view.calls,
        since: Some(breaker.timestamp(view.since)),
        next_probe: view.next_probe.map(|at| breaker.timestamp(at)),
        policy: Some(policy_view(breaker.policy())),
    };
    Standing { target: breaker.target().to_owned(), breaker: seen, concurrency }
}

impl ActivityHost for DeployedActivities {
    fn admit(&self, bytes: &[u8], name: &str, grants: Option<&Json>) -> Result<AdmittedActivity, Error> {
        let grants = grants.map(Grants::from_json).transpose().map_err(|e| not_granted(&e))?.unwrap_or_default();
        if let Some(missing) = grants.directories.iter().find(|directory| !directory.host.is_dir()) {
            let message =
                format!("the granted directory {} is not there; make it and deploy again", missing.host.display());
            return Err(Error::new(ErrorKind::Validation, "invalid-grants", message));
        }
        let admitted = self.sandbox.admit(bytes).map_err(|e| refused(&e))?;
        let mut inspection = admitted.inspection;
        let AdmittedComponent::Activity(component) = admitted.component else {
            let wrong = AdmissionError::WrongKind { expected: "an activity", found: "a workflow" };
            return Err(refused(&wrong));
        };
        let loaded = self.wasm.link(inspection.digest, &component).map_err(|e| not_deployable(&e))?;
        inspection.descriptions = self.wasm.check(&loaded, &[name]).map_err(|e| not_deployable(&e))?;
        let internal = |e: relive_core::json::JsonError| {
            Error::new(ErrorKind::Unknown, "internal", format!("failed to describe the activity: {e}"))
        };
        Ok(AdmittedActivity {
            digest: inspection.digest,
            grants: grants.to_json().map_err(internal)?,
            inspection: Json::of(&inspection_view(&inspection)).map_err(internal)?,
        })
    }

    fn admit_http(&self, config: &Json) -> Result<Json, Error> {
        let config = HttpConfig::from_json(config).map_err(|e| not_callable(&e))?;
        config.to_json().map_err(|e| not_callable(&HttpConfigError::Form(e.to_string())))
    }

    fn deployed(&self, namespace: &Namespace, name: &str) {
        self.registry.forget(namespace, name);
    }

    fn refresh(&self) {
        self.registry.forget_all();
    }

    fn standing(&self, namespace: &Namespace, row: &ActivityRow) -> Standing {
        let (target, protection) = told(&row.implementation);
        let concurrency = protection.concurrency;
        let Some(breaker) = self.registry.breaker(namespace, &row.name) else {
            let policy = Some(policy_view(protection.policy(BreakerPolicy::default())));
            return Standing { target, breaker: BreakerView { policy, ..BreakerView::default() }, concurrency };
        };
        standing_of(&breaker, concurrency)
    }

    fn breakers(&self) -> Vec<LoadedActivity> {
        let loaded = self.registry.breakers().into_iter();
        loaded
            .map(|(namespace, activity, breaker)| LoadedActivity {
                namespace,
                activity,
                standing: standing_of(&breaker, None),
            })
            .collect()
    }

    fn keys(&self) -> Json {
        self.http.jwks()
    }
}
