//! Where guests come from: the factory port, and its implementation over the sandbox and the catalog.

use std::sync::Arc;

use relive_core::{
    Digest, Error, ErrorKind, Json, Namespace,
    cursor::Cursor,
    guest::{Guest, GuestFault, NotLaid},
    image::GuestStamp,
    ports::{ActivityRow, Catalog},
};

use crate::views::BreakerView;

/// A workflow that a component was found to hold.
#[derive(Clone, Debug)]
pub struct Described {
    pub name: String,
    pub summary: Option<String>,
    pub input_schema: Option<Json>,
    pub output_schema: Option<Json>,
    /// The channels that it reads; `None`: any. Messages are judged by `channels` of the inspection's `descriptions`,
    /// which the catalog keeps: a factory puts them in both.
    pub channels: Option<Vec<String>>,
}

/// A component that may be deployed.
#[derive(Clone, Debug)]
pub struct Admitted {
    pub digest: Digest,
    /// Everything that admission found out, for people and programs.
    pub inspection: Json,
    /// Empty for a component that holds activities.
    pub workflows: Vec<Described>,
}

/// Admits components and makes instances of them.
pub trait GuestFactory: Send + Sync {
    /// Checks, compiles and describes a component. Errors carry the admission's code.
    fn admit(&self, bytes: &[u8]) -> Result<Admitted, Error>;

    /// The same; `told` hears the name of each part that is through.
    fn admit_told(&self, bytes: &[u8], told: &dyn Fn(&'static str)) -> Result<Admitted, Error> {
        let _ = told;
        self.admit(bytes)
    }

    /// A fresh instance of a component that the catalog holds.
    fn instantiate(&self, digest: &Digest, cursor: Cursor) -> Result<Box<dyn Guest>, GuestFault>;

    /// Gets a component that the catalog holds ready, so that the next instance of it waits for nothing.
    fn warm(&self, digest: &Digest) -> Result<(), GuestFault> {
        let _ = digest;
        Ok(())
    }

    /// An instance that stands where its memory image was taken, and `cursor` with it.
    fn lay(&self, digest: &Digest, cursor: Cursor, stamp: &GuestStamp, body: &[u8]) -> Result<Box<dyn Guest>, NotLaid> {
        let _ = (digest, cursor, stamp, body);
        Err(NotLaid::Ineligible("this factory lays no memory images".to_owned()))
    }

    /// A fresh instance of a component that is not deployed (shadow replays). Admitted before.
    fn instantiate_bytes(&self, bytes: &[u8], cursor: Cursor) -> Result<Box<dyn Guest>, GuestFault>;
}

/// An activity that may be deployed.
#[derive(Clone, Debug)]
pub struct AdmittedActivity {
    pub digest: Digest,
    pub inspection: Json,
    /// The grants as they will be kept, checked and complete.
    pub grants: Json,
}

/// Admits activities that the host runs itself.
pub trait ActivityHost: Send + Sync {
    /// Checks that the component holds the activity and that the grants can be given.
    fn admit(&self, bytes: &[u8], name: &str, grants: Option<&Json>) -> Result<AdmittedActivity, Error>;

    /// Checks how an http activity is to be called; returns it as it will be kept.
    fn admit_http(&self, config: &Json) -> Result<Json, Error>;

    /// The catalog holds a new deployment of the activity.
    fn deployed(&self, namespace: &Namespace, name: &str);

    /// Other hosts may have deployed activities: what is kept in memory of the catalog is to be looked at again.
    fn refresh(&self) {}

    /// What an activity runs on, and how well that goes.
    fn standing(&self, namespace: &Namespace, row: &ActivityRow) -> Standing;

    /// Deployed activities that are loaded, with their breakers; those that are not have had no call.
    fn breakers(&self) -> Vec<LoadedActivity> {
        Vec::new()
    }

    /// The public keys that requests to http activities are signed with, as a JWK set.
    fn keys(&self) -> Json;
}

/// A deployed activity that is loaded.
#[derive(Clone, Debug)]
pub struct LoadedActivity {
    pub namespace: Namespace,
    pub activity: Arc<str>,
    pub standing: Standing,
}

/// What an activity runs on, and its circuit breaker.
#[derive(Clone, Debug)]
pub struct Standing {
    /// `host:port`, or the beginning of a component's digest.
    pub target: String,
    pub breaker: BreakerView,
    /// Attempts at once, if the deployment says how many.
    pub concurrency: Option<usize>,
}

/// No host for deployed activities: engines that have native ones only.
pub struct NativeOnly;

impl ActivityHost for NativeOnly {
    fn admit(&self, _bytes: &[u8], _name: &str, _grants: Option<&Json>) -> Result<AdmittedActivity, Error> {
        Err(Error::new(
            ErrorKind::Configuration,
            "no-activity-host",
            "this engine was built without a host for deployed activities",
        ))
    }

    fn admit_http(&self, _config: &Json) -> Result<Json, Error> {
        self.admit(&[], "", None).map(|admitted| admitted.grants)
    }

    fn deployed(&self, _namespace: &Namespace, _name: &str) {}

    fn standing(&self, _namespace: &Namespace, _row: &ActivityRow) -> Standing {
        Standing { target: String::new(), breaker: BreakerView::default(), concurrency: None }
    }

    /// A set without keys.
    fn keys(&self) -> Json {
        Json::parse(r#"{"keys":[]}"#).unwrap_or_else(|_| Json::null())
    }
}

/// Loads a component's bytes for a factory.
pub(crate) fn component_bytes(catalog: &Arc<dyn Catalog>, digest: &Digest) -> Result<Vec<u8>, GuestFault> {
    match catalog.component(digest) {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => Err(GuestFault::Host(format!("component {digest} is not in the catalog"))),
        Err(error) => Err(GuestFault::unread(&format!("read component {digest}"), &error)),
    }
}
