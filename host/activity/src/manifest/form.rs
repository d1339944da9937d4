//! From TOML to a checked manifest: the written form, and the rules that TOML does not know.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use relive_core::ids::check_name;
use serde::Deserialize;
use toml::Spanned;

use super::{ActivityEntry, MAX_ENTRIES, Manifest, ManifestError, Position, WorkflowEntry};
use crate::grants::Grants;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    package: Package,
    #[serde(default)]
    workflow: Vec<Workflow>,
    #[serde(default)]
    activity: Vec<Activity>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Package {
    name: Spanned<String>,
    build: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Workflow {
    name: Spanned<String>,
    component: Spanned<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Activity {
    name: Spanned<String>,
    component: Spanned<PathBuf>,
    grants: Option<Spanned<Grants>>,
}

/// The folder of a manifest; a bare file name lies in the current one.
pub(super) fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => Path::new("."),
    }
}

pub(super) fn parse(text: &str, path: &Path) -> Result<Manifest, ManifestError> {
    let checker = Checker { text, path };
    let form: Form = toml::from_str(text).map_err(|error| checker.syntax(&error))?;
    checker.manifest(form)
}

struct Checker<'a> {
    text: &'a str,
    path: &'a Path,
}

impl Checker<'_> {
    fn error(&self, span: &Range<usize>, message: String) -> ManifestError {
        let position = Some(Position::of(self.text, span));
        ManifestError { path: self.path.to_owned(), position, message }
    }

    fn syntax(&self, error: &toml::de::Error) -> ManifestError {
        let position = error.span().map(|span| Position::of(self.text, &span));
        ManifestError { path: self.path.to_owned(), position, message: error.message().to_owned() }
    }

    fn manifest(&self, form: Form) -> Result<Manifest, ManifestError> {
        let Form { package, workflow, activity } = form;
        self.name(&package.name, "package name")?;
        if let Some(build) = package.build.as_ref().filter(|build| build.as_ref().trim().is_empty()) {
            return Err(self.error(&build.span(), "the build command is empty; leave it out".into()));
        }
        if workflow.is_empty() && activity.is_empty() {
            let message = "it names nothing to deploy; add a [[workflow]] or an [[activity]]".into();
            return Err(ManifestError { path: self.path.to_owned(), position: None, message });
        }
        self.names("workflow", workflow.iter().map(|w| &w.name))?;
        self.names("activity", activity.iter().map(|a| &a.name))?;
        Ok(Manifest {
            path: self.path.to_owned(),
            name: package.name.into_inner(),
            build: package.build.map(Spanned::into_inner),
            workflows: workflow.into_iter().map(|w| self.workflow(w)).collect::<Result<_, _>>()?,
            activities: activity.into_iter().map(|a| self.activity(a)).collect::<Result<_, _>>()?,
        })
    }

    fn name(&self, name: &Spanned<String>, what: &'static str) -> Result<(), ManifestError> {
        check_name(name.as_ref(), what).map_err(|error| self.error(&name.span(), error.to_string()))
    }

    fn names<'n>(
        &self,
        what: &'static str,
        names: impl ExactSizeIterator<Item = &'n Spanned<String>>,
    ) -> Result<(), ManifestError> {
        let count = names.len();
        let mut seen = BTreeMap::new();
        for (index, name) in names.enumerate() {
            if index >= MAX_ENTRIES {
                let message = format!("{count} entries of kind {what}; at most {MAX_ENTRIES} are allowed");
                return Err(self.error(&name.span(), message));
            }
            self.name(name, what)?;
            if let Some(first) = seen.insert(name.as_ref().as_str(), name.span()) {
                let line = Position::of(self.text, &first).line;
                let message = format!("{what} `{}` stands here twice, first in line {line}", name.as_ref());
                return Err(self.error(&name.span(), message));
            }
        }
        Ok(())
    }

    /// A path of the manifest, and where it is written.
    fn component(&self, component: &Spanned<PathBuf>) -> Result<(PathBuf, Position), ManifestError> {
        if component.as_ref().as_os_str().is_empty() {
            return Err(self.error(&component.span(), "the component's path is empty".into()));
        }
        let position = Position::of(self.text, &component.span());
        Ok((folder(self.path).join(component.as_ref()), position))
    }

    fn workflow(&self, entry: Workflow) -> Result<WorkflowEntry, ManifestError> {
        let (component, position) = self.component(&entry.component)?;
        Ok(WorkflowEntry { name: entry.name.into_inner(), component, position })
    }

    fn activity(&self, entry: Activity) -> Result<ActivityEntry, ManifestError> {
        let (component, position) = self.component(&entry.component)?;
        let span = entry.grants.as_ref().map_or(entry.name.span(), Spanned::span);
        let mut grants = entry.grants.map(Spanned::into_inner).unwrap_or_default();
        grants.check().map_err(|error| self.error(&span, error.to_string()))?;
        for grant in &mut grants.directories {
            if grant.host.as_os_str().is_empty() {
                return Err(self.error(&span, format!("the host's path of `{}` is empty", grant.guest)));
            }
            grant.host = folder(self.path).join(&grant.host);
        }
        let grants_position = Position::of(self.text, &span);
        Ok(ActivityEntry { name: entry.name.into_inner(), component, grants, position, grants_position })
    }
}
