//! From TOML to a checked manifest: the written form, and the rules that TOML does not know.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use relive_core::ids::check_name;
use serde::Deserialize;
use toml::Spanned;

use super::{ActivityEntry, ActivitySource, MAX_ENTRIES, Manifest, ManifestError, Position, WorkflowEntry};
use crate::grants::{Grants, HostPattern};
use crate::http::{HttpConfig, HttpConfigError};
use crate::protection::{BreakerSettings, Protection, check_concurrency};

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
    #[serde(default)]
    kind: Kind,
    // Of wasm activities.
    component: Option<Spanned<PathBuf>>,
    grants: Option<Spanned<Grants>>,
    // Of http activities.
    url: Option<Spanned<String>>,
    headers: Option<Spanned<BTreeMap<String, String>>>,
    allow_hosts: Option<Spanned<Vec<HostPattern>>>,
    allow_private: Option<Spanned<bool>>,
    max_response_bytes: Option<Spanned<usize>>,
    // Of both.
    breaker: Option<Spanned<BreakerSettings>>,
    concurrency: Option<Spanned<usize>>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    #[default]
    Wasm,
    Http,
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
        let name = entry.name.as_ref().clone();
        let source = match entry.kind {
            Kind::Wasm => self.wasm(entry)?,
            Kind::Http => ActivitySource::Http(self.http(entry)?),
        };
        Ok(ActivityEntry { name, source })
    }

    /// What an entry of one kind may not say.
    fn foreign(&self, kind: &str, fields: &[(&str, Option<Range<usize>>)]) -> Result<(), ManifestError> {
        match fields.iter().find_map(|(name, span)| span.as_ref().map(|span| (name, span))) {
            Some((name, span)) => Err(self.error(span, format!("`{name}` says nothing of an activity of kind {kind}"))),
            None => Ok(()),
        }
    }

    /// What is told of breaker and concurrency, each checked in its place.
    fn protection(&self, entry: &Activity) -> Result<Protection, ManifestError> {
        if let Some(breaker) = &entry.breaker {
            breaker.as_ref().check().map_err(|error| self.error(&breaker.span(), format!("failed to {error}")))?;
        }
        if let Some(limit) = &entry.concurrency {
            let checked = check_concurrency(Some(*limit.as_ref()));
            checked.map_err(|error| self.error(&limit.span(), format!("failed to {error}")))?;
        }
        let breaker = entry.breaker.as_ref().map(|breaker| *breaker.as_ref());
        Ok(Protection { breaker, concurrency: entry.concurrency.as_ref().map(|limit| *limit.as_ref()) })
    }

    fn http(&self, entry: Activity) -> Result<HttpConfig, ManifestError> {
        let Protection { breaker, concurrency } = self.protection(&entry)?;
        self.foreign("http", &[("component", span(&entry.component)), ("grants", span(&entry.grants))])?;
        let Some(url) = entry.url else {
            return Err(self.error(&entry.name.span(), "an activity of kind http needs a `url`".into()));
        };
        let spans = (span(&entry.headers), span(&entry.max_response_bytes));
        let url_span = url.span();
        let config = HttpConfig {
            url: url.into_inner(),
            headers: entry.headers.map(Spanned::into_inner).unwrap_or_default(),
            allow_hosts: entry.allow_hosts.map(Spanned::into_inner).unwrap_or_default(),
            allow_private: entry.allow_private.is_some_and(Spanned::into_inner),
            max_response_bytes: entry.max_response_bytes.map(Spanned::into_inner),
            breaker,
            concurrency,
        };
        config.check().map_err(|error| {
            let place = match (&error, spans) {
                (HttpConfigError::Header { .. }, (Some(headers), _)) => headers,
                (HttpConfigError::ResponseBytes { .. }, (_, Some(bytes))) => bytes,
                _ => url_span,
            };
            self.error(&place, error.to_string())
        })?;
        Ok(config)
    }

    fn wasm(&self, entry: Activity) -> Result<ActivitySource, ManifestError> {
        let foreign = [
            ("url", span(&entry.url)),
            ("headers", span(&entry.headers)),
            ("allow_hosts", span(&entry.allow_hosts)),
            ("allow_private", span(&entry.allow_private)),
            ("max_response_bytes", span(&entry.max_response_bytes)),
        ];
        self.foreign("wasm; say kind = \"http\"", &foreign)?;
        let Some(component) = &entry.component else {
            let message = "missing field `component`: a .wasm file, or a `url` with kind = \"http\"".into();
            return Err(self.error(&entry.name.span(), message));
        };
        let (component, position) = self.component(component)?;
        let protection = self.protection(&entry)?;
        let span = entry.grants.as_ref().map_or(entry.name.span(), Spanned::span);
        let mut grants = entry.grants.map(Spanned::into_inner).unwrap_or_default();
        if grants.protection() != Protection::default() {
            let message = "`breaker` and `concurrency` stand beside the grants, not among them".into();
            return Err(self.error(&span, message));
        }
        grants.check().map_err(|error| self.error(&span, error.to_string()))?;
        (grants.breaker, grants.concurrency) = (protection.breaker, protection.concurrency);
        for grant in &mut grants.directories {
            if grant.host.as_os_str().is_empty() {
                return Err(self.error(&span, format!("the host's path of `{}` is empty", grant.guest)));
            }
            grant.host = folder(self.path).join(&grant.host);
        }
        let grants_position = Position::of(self.text, &span);
        Ok(ActivitySource::Wasm { component, grants, position, grants_position })
    }
}

fn span<T>(field: &Option<Spanned<T>>) -> Option<Range<usize>> {
    field.as_ref().map(Spanned::span)
}
