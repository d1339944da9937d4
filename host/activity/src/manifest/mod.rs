//! The manifest `relive.toml`: which workflows and activities a folder of guests deploys, with which grants.
//!
//! Owns the file's form and its errors, which name line and column. Used by the CLI and by tests. Must not know: how
//! anything is built, uploaded or run.

mod error;
mod form;

use std::path::{Path, PathBuf};

pub use error::{ManifestError, Position};

use crate::grants::Grants;
use crate::http::HttpConfig;

/// The file's name, where a folder is given instead of a file.
pub const FILE_NAME: &str = "relive.toml";

/// A manifest names a handful of files by hand.
pub const MAX_MANIFEST_BYTES: u64 = 1 << 20;

/// Workflows or activities of one manifest.
pub const MAX_ENTRIES: usize = 256;

/// A manifest, checked; its paths lead from the process's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Where it was read from.
    pub path: PathBuf,
    pub name: String,
    /// The command that builds the components, for people: shown where one is missing, never run.
    pub build: Option<String>,
    pub workflows: Vec<WorkflowEntry>,
    pub activities: Vec<ActivityEntry>,
}

/// A workflow to deploy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkflowEntry {
    pub name: String,
    pub component: PathBuf,
    /// Where the component is named.
    pub position: Position,
}

/// An activity to deploy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActivityEntry {
    pub name: String,
    pub source: ActivitySource,
}

/// What runs an activity of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ActivitySource {
    Wasm {
        component: PathBuf,
        grants: Grants,
        /// Where the component is named.
        position: Position,
        /// Where the grants stand; the entry's where there are none.
        grants_position: Position,
    },
    Http(HttpConfig),
}

impl ActivityEntry {
    /// The component of a wasm activity, and where it is named.
    fn component(&self) -> Option<(&String, &PathBuf, Position)> {
        match &self.source {
            ActivitySource::Wasm { component, position, .. } => Some((&self.name, component, *position)),
            ActivitySource::Http(_) => None,
        }
    }
}

impl Manifest {
    /// Reads a manifest: the file given, or `relive.toml` in the folder given. Components need not exist yet.
    pub fn load(path: &Path) -> Result<Self, ManifestError> {
        let path = if path.is_dir() { path.join(FILE_NAME) } else { path.to_owned() };
        let unreadable = |message: String| ManifestError { path: path.clone(), position: None, message };
        let meta = std::fs::metadata(&path).map_err(|e| unreadable(format!("read the manifest: {e}")))?;
        if meta.len() > MAX_MANIFEST_BYTES {
            return Err(unreadable(format!("it has {} bytes; at most {MAX_MANIFEST_BYTES} are allowed", meta.len())));
        }
        let text = std::fs::read_to_string(&path).map_err(|e| unreadable(format!("read the manifest: {e}")))?;
        Self::parse(&text, &path)
    }

    /// Parses a manifest. `path` is where it lies: it stands in errors, and relative paths begin in its folder.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ManifestError> {
        form::parse(text, path)
    }

    /// The folder that relative paths begin in.
    #[must_use]
    pub fn folder(&self) -> &Path {
        form::folder(&self.path)
    }

    /// Whether everything is there that the manifest names: components, and granted directories.
    pub fn check_files(&self) -> Result<(), ManifestError> {
        let missing =
            |position, message| Err(ManifestError { path: self.path.clone(), position: Some(position), message });
        let workflows = self.workflows.iter().map(|w| (&w.name, &w.component, w.position));
        let activities = self.activities.iter().filter_map(ActivityEntry::component);
        for (name, component, position) in workflows.chain(activities) {
            if !component.is_file() {
                let build = self.build.as_deref().map_or(String::new(), |build| format!("; build it with `{build}`"));
                return missing(
                    position,
                    format!("the component of `{name}` is missing: no file {}{build}", component.display()),
                );
            }
        }
        for activity in &self.activities {
            let ActivitySource::Wasm { grants, grants_position, .. } = &activity.source else {
                continue;
            };
            if let Some(grant) = grants.directories.iter().find(|grant| !grant.host.is_dir()) {
                let message =
                    format!("a granted directory of `{}` is missing: {}", activity.name, grant.host.display());
                return missing(*grants_position, message);
            }
        }
        Ok(())
    }
}
