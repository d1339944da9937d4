//! The caps on what may be uploaded, each with its reason. They are checked before anything is compiled, on counts
//! that sections declare, before anything is allocated for them.

/// Bytes of an upload. The largest known guest (JavaScript, everything included) has 12 MB, Python's 18 MB.
pub const MAX_UPLOAD_BYTES: usize = 32 << 20;

/// Functions over all core modules; 13,000 were seen in practice. Each costs compile time and resident tables.
pub const MAX_FUNCTIONS: u64 = 50_000;

/// Code of one function; 427 KB were seen (an interpreter's loop). Register allocation is more than linear in it.
pub const MAX_FUNCTION_BYTES: u64 = 1 << 20;

/// Core modules; CPython's component has 14.
pub const MAX_CORE_MODULES: u64 = 64;

/// Components inside of each other; toolchains nest two deep.
pub const MAX_NESTING: usize = 8;

/// Linear memories over all core modules. Each takes 4 GiB of address space an instance.
pub const MAX_MEMORIES: u64 = 4;

/// Tables over all core modules.
pub const MAX_TABLES: u64 = 64;

/// Elements that a table begins with; a pointer each, in every instance.
pub const MAX_TABLE_ELEMENTS: u64 = 100_000;

/// Data segments over all core modules; a few thousand were seen.
pub const MAX_DATA_SEGMENTS: u64 = 50_000;

/// Element segments over all core modules.
pub const MAX_ELEMENT_SEGMENTS: u64 = 10_000;

/// Globals over all core modules; 16 bytes each in every instance.
pub const MAX_GLOBALS: u64 = 50_000;

/// Types, imports and exports over all core modules.
pub const MAX_CORE_ITEMS: u64 = 200_000;

/// Core and component instances that a component makes. Nested components can multiply them, which the compiler's
/// limits and the store's count of instances bound.
pub const MAX_INSTANCES: u64 = 256;

/// Component-level types, aliases, canonical functions, imports and exports, at all levels of nesting.
pub const MAX_COMPONENT_ITEMS: u64 = 50_000;

/// WIT text kept of a component; more is cut.
pub const MAX_WIT_BYTES: usize = 1 << 20;

/// Metadata of a core module (its `component-type` sections); the SDK's has 3 KB. The toolchain's time and stack grow
/// with it.
pub const MAX_METADATA_BYTES: usize = 256 << 10;

/// Workflows or activities that one component may hold.
pub const MAX_DESCRIPTIONS: usize = 256;

/// Channels that one workflow may declare: they are written in its source, and named in the refusal of another.
pub const MAX_CHANNELS: usize = 1_000;

/// Bytes of everything that `describe` answers.
pub const MAX_DESCRIPTION_BYTES: usize = 1 << 20;

/// Text quoted from an upload in an error message; names in it can be as long as the upload.
pub const MAX_QUOTED_BYTES: usize = 200;

/// Cuts text taken from an upload down to [`MAX_QUOTED_BYTES`], control characters made visible.
pub(crate) fn quote(text: &str) -> String {
    let mut quoted: String = text.chars().flat_map(char::escape_debug).take(MAX_QUOTED_BYTES).collect();
    if quoted.len() >= MAX_QUOTED_BYTES {
        quoted.push_str("...");
    }
    quoted
}
