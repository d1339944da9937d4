//! What this process holds: resident memory, open files, threads. From `/proc`, so on Linux.

/// A look at the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Resident bytes.
    pub resident: u64,
    pub files: usize,
    pub threads: usize,
}

/// Resident memory that an allocator may keep for itself.
const KEPT_BY_ALLOCATOR: u64 = 96 << 20;
/// Files that a runtime may open late (its poller, a log).
const FEW_FILES: usize = 4;

impl Usage {
    /// # Panics
    /// Without `/proc`.
    #[must_use]
    pub fn now() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").expect("/proc");
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).expect("a known field");
            line.split_whitespace().nth(1).and_then(|word| word.parse::<u64>().ok()).expect("a number")
        };
        let files = std::fs::read_dir("/proc/self/fd").expect("/proc").count();
        Self { resident: field("VmRSS:") << 10, files, threads: field("Threads:") as usize }
    }

    /// What this look shows beyond `before`, in words; `None`: about the same.
    #[must_use]
    pub fn beyond(&self, before: &Self) -> Option<String> {
        let same = self.resident <= before.resident + KEPT_BY_ALLOCATOR
            && self.files <= before.files + FEW_FILES
            && self.threads <= before.threads;
        (!same).then(|| format!("{before:?} became {self:?}"))
    }
}
