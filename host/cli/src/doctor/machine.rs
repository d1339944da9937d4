//! The machine's limits and its clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use relive_core::Timestamp;
use rustix::process::{Resource, getrlimit};

use super::Check;

/// A live guest takes some maps; the kernel's default is just enough for the default cache.
const MAPS: u64 = 65_530;
/// Connections, files of the store, granted directories.
const OPEN_FILES: u64 = 4_096;
/// 2025-01-01: before it a clock was never set.
const PLAUSIBLE: Duration = Duration::from_secs(1_735_689_600);

pub fn memory_maps() -> Check {
    const NAME: &str = "vm.max_map_count";
    let read =
        std::fs::read_to_string("/proc/sys/vm/max_map_count").ok().and_then(|text| text.trim().parse::<u64>().ok());
    match read {
        None => Check::warn(NAME, "not known", "Relive is tested on Linux"),
        Some(maps) if maps < MAPS => Check::warn(
            NAME,
            maps.to_string(),
            format!("fewer guests stay in memory; type: sysctl -w vm.max_map_count={MAPS}"),
        ),
        Some(maps) => Check::ok(NAME, maps.to_string()),
    }
}

pub fn open_files() -> Check {
    const NAME: &str = "open files";
    // The host raises the soft limit to the hard one by itself.
    match getrlimit(Resource::Nofile).maximum {
        Some(limit) if limit < OPEN_FILES => Check::warn(
            NAME,
            format!("at most {limit}"),
            format!("allow at least {OPEN_FILES}, in /etc/security/limits.conf or the service's LimitNOFILE"),
        ),
        Some(limit) => Check::ok(NAME, format!("at most {limit}")),
        None => Check::ok(NAME, "unlimited"),
    }
}

pub fn clock() -> Check {
    const NAME: &str = "clock";
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let found = Timestamp(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)).to_string();
    if now < PLAUSIBLE {
        return Check::fail(NAME, found, "set the clock: timers and histories follow it");
    }
    let source =
        std::fs::read_to_string("/sys/devices/system/clocksource/clocksource0/current_clocksource").unwrap_or_default();
    match source.trim() {
        slow @ ("hpet" | "acpi_pm" | "refined-jiffies") => Check::warn(
            NAME,
            format!("{found}, from {slow}"),
            "reading this clock is slow; the kernel has left the faster one, see `dmesg | grep clocksource`",
        ),
        _ => Check::ok(NAME, found),
    }
}
