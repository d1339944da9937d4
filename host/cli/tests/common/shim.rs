//! A disk that fails and a clock that jumps when a test says so: a library that is loaded before libc's and stands between the host and the
//! kernel. Needs a C compiler, as the build does.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use relive_testkit::process::Host;

use super::relive;

/// Every sync fails with EIO while the file is there that `RELIVE_TEST_BREAK` names, and every write to a file with
/// ENOSPC while the one is there that `RELIVE_TEST_FULL` names. The time of day is an hour ahead while the one is there
/// that `RELIVE_TEST_AHEAD` names.
const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>
static int there(const char *variable) {
    const char *file = getenv(variable);
    return file && access(file, F_OK) == 0;
}
static int full(int fd) {
    struct stat about;
    return there("RELIVE_TEST_FULL") && fstat(fd, &about) == 0 && S_ISREG(about.st_mode);
}
#define REAL(like, name) __typeof__(&like) real = (__typeof__(&like))dlsym(RTLD_NEXT, name)
#define REFUSE(code) do { errno = code; return -1; } while (0)
static int sync_by(const char *name, int fd) {
    if (there("RELIVE_TEST_BREAK")) REFUSE(EIO);
    REAL(fsync, name);
    return real(fd);
}
int clock_gettime(clockid_t id, struct timespec *at) {
    REAL(clock_gettime, "clock_gettime");
    int failed = real(id, at);
    if (!failed && id == CLOCK_REALTIME && there("RELIVE_TEST_AHEAD")) at->tv_sec += 3600;
    return failed;
}
int fsync(int fd) { return sync_by("fsync", fd); }
int fdatasync(int fd) { return sync_by("fdatasync", fd); }
ssize_t write(int fd, const void *bytes, size_t count) {
    if (full(fd)) REFUSE(ENOSPC);
    REAL(write, "write");
    return real(fd, bytes, count);
}
ssize_t writev(int fd, const struct iovec *parts, int count) {
    if (full(fd)) REFUSE(ENOSPC);
    REAL(writev, "writev");
    return real(fd, parts, count);
}
ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at) {
    if (full(fd)) REFUSE(ENOSPC);
    REAL(pwrite, "pwrite");
    return real(fd, bytes, count, at);
}
ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) {
    if (full(fd)) REFUSE(ENOSPC);
    REAL(pwrite64, "pwrite64");
    return real(fd, bytes, count, at);
}
"#;

/// The library and its switches, in a directory of the test's.
pub struct Shim {
    library: PathBuf,
    broken: PathBuf,
    full: PathBuf,
    ahead: PathBuf,
}

impl Shim {
    pub fn build(dir: &Path) -> Self {
        let (source, library) = (dir.join("shim.c"), dir.join("shim.so"));
        std::fs::write(&source, SOURCE).expect("the source");
        let mut command = Command::new("cc");
        command.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source).arg("-ldl");
        let built = command.output().expect("a C compiler; type: apt-get update && apt-get install -y build-essential");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        Self { library, broken: dir.join("broken"), full: dir.join("full"), ahead: dir.join("ahead") }
    }

    /// A host on this disk. `None`: it ended before it listened.
    pub fn host(&self, data: &Path) -> Option<Host> {
        let mut command = Command::new(relive());
        command.args(Host::arguments(data)).env("LD_PRELOAD", &self.library);
        command.env("RELIVE_TEST_BREAK", &self.broken).env("RELIVE_TEST_FULL", &self.full);
        Host::launch(command, data)
    }

    /// The command that starts a host on this disk, to look at how it ends.
    pub fn command(&self) -> Command {
        let mut command = Command::new(relive());
        command.env("LD_PRELOAD", &self.library);
        command.env("RELIVE_TEST_BREAK", &self.broken).env("RELIVE_TEST_FULL", &self.full);
        command
    }

    pub fn syncs_fail(&self, fail: bool) {
        switch(&self.broken, fail);
    }

    /// What makes a command's process have this clock.
    pub fn clock(&self, command: &mut Command) {
        command.env("LD_PRELOAD", &self.library).env("RELIVE_TEST_AHEAD", &self.ahead);
    }

    pub fn is_ahead(&self, ahead: bool) {
        switch(&self.ahead, ahead);
    }

    pub fn is_full(&self, full: bool) {
        switch(&self.full, full);
    }
}

fn switch(file: &Path, on: bool) {
    if on {
        std::fs::write(file, "").expect("the switch");
    } else {
        std::fs::remove_file(file).expect("the switch");
    }
}
