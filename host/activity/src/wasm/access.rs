//! Grants, opened: the directories as file descriptors, the rest as a call needs it.
//!
//! A directory is opened once, when its activity is loaded. From then on the descriptor is meant and not the path, so
//! that whoever may write beside it cannot put another directory, or a link to one, in its place.

use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::Arc;

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use wasmtime_wasi::{FsPerms, WasiCtx};

use super::limiter::MAX_RANDOM_BYTES;
use super::output::Output;
use crate::grants::{Access, DirGrant, GrantError, Grants, HostPattern};

pub(crate) struct OpenGrants {
    directories: Vec<OpenDirectory>,
    pub(crate) http: Arc<[HostPattern]>,
    env: Vec<(String, String)>,
}

struct OpenDirectory {
    dir: Dir,
    path: PathBuf,
    guest: String,
    permissions: FsPerms,
}

impl OpenGrants {
    /// Nothing at all: what `describe` gets.
    pub(crate) fn none() -> Self {
        Self { directories: Vec::new(), http: Arc::new([]), env: Vec::new() }
    }

    pub(crate) fn open(grants: &Grants) -> Result<Self, GrantError> {
        grants.check()?;
        Ok(Self {
            directories: grants.directories.iter().map(OpenDirectory::open).collect::<Result<_, _>>()?,
            http: grants.http.clone().into(),
            env: grants.env.clone().into_iter().collect(),
        })
    }

    /// The context of one call. Sockets and name lookup are denied: HTTP goes through `outbound`.
    pub(crate) fn context(&self, stdout: &Output, stderr: &Output) -> Result<WasiCtx, GrantError> {
        let mut wasi = WasiCtx::builder();
        wasi.allow_tcp(false).allow_udp(false).allow_ip_name_lookup(false);
        wasi.max_random_size(MAX_RANDOM_BYTES);
        wasi.stdout(stdout.clone()).stderr(stderr.clone());
        wasi.envs(&self.env);
        for directory in &self.directories {
            // wasmtime-wasi takes paths alone; this one leads to the open descriptor.
            let path = format!("/proc/self/fd/{}", directory.dir.as_raw_fd());
            wasi.preopened_dir(path, &directory.guest, directory.permissions).map_err(|e| GrantError::Directory {
                path: directory.path.clone(),
                source: std::io::Error::other(format!("{e:#}")),
            })?;
        }
        Ok(wasi.build())
    }
}

impl OpenDirectory {
    fn open(grant: &DirGrant) -> Result<Self, GrantError> {
        let dir = Dir::open_ambient_dir(&grant.host, ambient_authority())
            .map_err(|source| GrantError::Directory { path: grant.host.clone(), source })?;
        let permissions = match grant.access {
            Access::ReadOnly => FsPerms::ReadOnly,
            Access::ReadWrite => FsPerms::ReadWrite,
        };
        Ok(Self { dir, path: grant.host.clone(), guest: grant.guest.clone(), permissions })
    }
}
