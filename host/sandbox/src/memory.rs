//! Linear memories that the host allocates, and the only way to look into them.
//!
//! Owns the address space of every workflow guest: a *reservation* is `PROT_NONE | MAP_NORESERVE` over the
//! reservation and its guard; a *region* is a reservation of which exactly `[0, byte_size)` is readable and writable.
//! Released reservations are emptied and reused. Knows nothing of workflows, cursors or images.
//!
//! This is the crate's unsafe module (with `native`, which holds the one call that loads native code). Why it is
//! sound:
//!
//! * `[byte_size, reservation + guard)` is always `PROT_NONE`. Cranelift leaves bounds checks out for accesses that
//!   land inside reservation and guard, so a byte that is accessible there would be readable by the guest, and with
//!   pooling it would be the last tenant's.
//! * A reservation goes back to the pool only after all of it was made inaccessible and its pages were dropped; where
//!   either fails it is unmapped instead. A reused memory therefore reads as zeros.
//! * A region is shared by wasmtime's memory and by the [`GuestStore`] whose instantiation made it, and is released
//!   when both are gone, so a slice into it can never outlive its mapping.
//! * wasmtime does not say for which store a memory is made. The thread-local [`HANDOVER`] is set around one
//!   synchronous instantiation and emptied after it, on errors and panics too.
//! * [`GuestStore`] gives its store out only as a `StoreContextMut`, which cannot be exchanged for another one. So
//!   `&mut GuestStore` means: no frame of this guest runs, and nobody else writes these bytes.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use rustix::mm::{Advice, MapFlags, MprotectFlags, ProtFlags, madvise, mmap_anonymous, mprotect, munmap};
use wasmtime::component::{Instance, InstancePre};
use wasmtime::{AsContext, AsContextMut, Engine, LinearMemory, MemoryCreator, MemoryType};
use wasmtime::{Store, StoreContext, StoreContextMut};

/// A WebAssembly page.
pub const WASM_PAGE: usize = 64 * 1024;

/// Idle reservations that the pool keeps. Each is one memory map and no resident page; more than this many guests
/// are rarely made at once, and the rest is one `mmap` away.
pub const MAX_IDLE_RESERVATIONS: usize = 1_024;

/// Memory maps that a live region needs: the accessible part and the rest.
const MAPS_PER_REGION: usize = 2;

/// What the pool holds at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryStats {
    /// Memories of living guests.
    pub live: usize,
    /// Bytes that living guests can access: the bound of what is resident.
    pub live_bytes: usize,
    /// Reservations that wait for the next guest; nothing of them is resident.
    pub idle: usize,
    /// Memory maps used, to be held against `vm.max_map_count` (neighbours that the kernel merges count apart).
    pub maps: usize,
}

/// Where guests' memories come from. Cheap to clone; all clones are one pool.
#[derive(Clone, Debug, Default)]
pub struct MemoryPool(Arc<Pool>);

#[derive(Debug, Default)]
struct Pool {
    idle: Mutex<Vec<Reservation>>,
    live: AtomicUsize,
    live_bytes: AtomicUsize,
}

impl MemoryPool {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn stats(&self) -> MemoryStats {
        let live = self.0.live.load(Ordering::Relaxed);
        let idle = self.0.idle.lock().len();
        MemoryStats {
            live,
            live_bytes: self.0.live_bytes.load(Ordering::Relaxed),
            idle,
            maps: live * MAPS_PER_REGION + idle,
        }
    }

    /// Gives all idle reservations back to the operating system.
    pub fn trim(&self) {
        let idle = std::mem::take(&mut *self.0.idle.lock());
        drop(idle);
    }
}

/// Address space that nobody can access; unmapped when dropped.
#[derive(Debug)]
struct Reservation {
    base: NonNull<u8>,
    /// Bytes that a memory may grow to; a multiple of the page size.
    capacity: usize,
    /// Capacity and guard.
    total: usize,
}

// SAFETY: a reservation owns its range of addresses; it has no tie to the thread that mapped it.
unsafe impl Send for Reservation {}
// SAFETY: through `&Reservation` only its numbers are read; access to the bytes is granted by `Region` and `GuestStore`.
unsafe impl Sync for Reservation {}

impl Reservation {
    fn map(capacity: usize, guard: usize) -> Result<Self, String> {
        let total = capacity.checked_add(guard).ok_or("reserve address space: size overflows")?;
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice touches nothing that exists.
        let base = unsafe {
            mmap_anonymous(std::ptr::null_mut(), total, ProtFlags::empty(), MapFlags::PRIVATE | MapFlags::NORESERVE)
        }
        .map_err(|e| format!("reserve {total} bytes of address space: {e}"))?;
        let base = NonNull::new(base.cast::<u8>()).ok_or("reserve address space: null")?;
        let reservation = Self { base, capacity, total };
        // Huge pages would make a small guest resident in steps of 2 MiB. A kernel without them refuses the advice,
        // which is as good.
        // SAFETY: the range is ours, and the advice changes no byte of it.
        let _ = unsafe { madvise(reservation.ptr(0), total, Advice::LinuxNoHugepage) };
        Ok(reservation)
    }

    fn ptr(&self, offset: usize) -> *mut c_void {
        debug_assert!(offset <= self.total);
        self.base.as_ptr().wrapping_add(offset).cast()
    }

    /// Makes `[from, to)` accessible or not.
    fn protect(&self, from: usize, to: usize, access: MprotectFlags) -> rustix::io::Result<()> {
        assert!(from <= to && to <= self.capacity, "protection outside of the reservation");
        if from == to {
            return Ok(());
        }
        // SAFETY: the range lies in our mapping, and callers hold no reference into a part that they take away.
        unsafe { mprotect(self.ptr(from), to - from, access) }
    }

    /// Makes everything inaccessible and drops its pages.
    fn clear(&self, high_water: usize) -> rustix::io::Result<()> {
        self.protect(0, high_water, MprotectFlags::empty())?;
        if high_water == 0 {
            return Ok(());
        }
        // SAFETY: the range lies in our mapping, nobody refers to it any more, and it reads as zeros afterwards.
        unsafe { madvise(self.ptr(0), high_water, Advice::LinuxDontNeed) }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and nothing refers to it: regions hold their reservation until they are gone.
        if let Err(error) = unsafe { munmap(self.ptr(0), self.total) } {
            tracing::error!(%error, bytes = self.total, "failed to unmap a guest's memory");
        }
    }
}

/// One linear memory.
#[derive(Debug)]
struct Region {
    /// `None` only while it is dropped.
    reservation: Option<Reservation>,
    pool: Arc<Pool>,
    size: AtomicUsize,
    /// The most that was ever asked to be accessible, failed attempts included.
    high_water: AtomicUsize,
}

impl Region {
    fn new(pool: &Arc<Pool>, size: usize, capacity: usize, guard: usize) -> Result<Self, String> {
        let fits = |r: &Reservation| r.capacity == capacity && r.total - r.capacity == guard;
        let idle = pool.idle.lock().pop().filter(fits);
        let reservation = match idle {
            Some(reservation) => reservation,
            None => Reservation::map(capacity, guard)?,
        };
        pool.live.fetch_add(1, Ordering::Relaxed);
        let region = Self {
            reservation: Some(reservation),
            pool: pool.clone(),
            size: AtomicUsize::new(0),
            high_water: AtomicUsize::new(0),
        };
        region.grow(size)?;
        Ok(region)
    }

    fn size(&self) -> usize {
        self.size.load(Ordering::Acquire)
    }

    fn base(&self) -> *mut u8 {
        self.reservation.as_ref().map_or(std::ptr::null_mut(), |r| r.base.as_ptr())
    }

    fn capacity(&self) -> usize {
        self.reservation.as_ref().map_or(0, |r| r.capacity)
    }

    fn grow(&self, new_size: usize) -> Result<(), String> {
        let old_size = self.size();
        let Some(reservation) = self.reservation.as_ref() else {
            return Err("grow a released memory".into());
        };
        if new_size > reservation.capacity {
            return Err(format!("grow a memory to {new_size} bytes: its reservation has {}", reservation.capacity));
        }
        if new_size < old_size || !new_size.is_multiple_of(WASM_PAGE) {
            return Err(format!("grow a memory from {old_size} to {new_size} bytes: not a growth by whole pages"));
        }
        self.high_water.fetch_max(new_size, Ordering::Relaxed);
        let access = MprotectFlags::READ | MprotectFlags::WRITE;
        reservation
            .protect(old_size, new_size, access)
            .map_err(|e| format!("make a memory of {new_size} bytes accessible: {e}"))?;
        self.size.store(new_size, Ordering::Release);
        self.pool.live_bytes.fetch_add(new_size - old_size, Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        self.pool.live.fetch_sub(1, Ordering::Relaxed);
        self.pool.live_bytes.fetch_sub(self.size(), Ordering::Relaxed);
        let Some(reservation) = self.reservation.take() else {
            return;
        };
        if let Err(error) = reservation.clear(self.high_water.load(Ordering::Relaxed)) {
            // Dropping it unmaps it: a reservation that may hold a tenant's bytes is never reused.
            tracing::warn!(%error, "failed to empty a guest's memory; it is unmapped");
            return;
        }
        let mut idle = self.pool.idle.lock();
        if idle.len() < MAX_IDLE_RESERVATIONS {
            idle.push(reservation);
        }
    }
}

/// wasmtime's handle on a region.
struct HostMemory(Arc<Region>);

// SAFETY: base and capacity never change; `[0, byte_size)` is accessible and zero at first, everything behind it up
// to capacity and guard is not; growth happens in place or is an error.
unsafe impl LinearMemory for HostMemory {
    fn byte_size(&self) -> usize {
        self.0.size()
    }

    fn byte_capacity(&self) -> usize {
        self.0.capacity()
    }

    fn grow_to(&mut self, new_size: usize) -> wasmtime::Result<()> {
        self.0.grow(new_size).map_err(wasmtime::Error::msg)
    }

    fn as_ptr(&self) -> *mut u8 {
        self.0.base()
    }
}

/// What one instantiation asks of the memories that it makes, and what it made.
#[derive(Default)]
struct Handover {
    initial_size: Option<usize>,
    made: Vec<Arc<Region>>,
}

thread_local! {
    static HANDOVER: RefCell<Option<Handover>> = const { RefCell::new(None) };
}

/// Puts a hand-over in place; takes it out again whatever happens.
struct HandoverGuard {
    outer: Option<Handover>,
}

impl HandoverGuard {
    fn install(initial_size: Option<usize>) -> Self {
        let handover = Handover { initial_size, made: Vec::new() };
        Self { outer: HANDOVER.with_borrow_mut(|slot| slot.replace(handover)) }
    }

    fn take() -> Vec<Arc<Region>> {
        HANDOVER.with_borrow_mut(|slot| slot.as_mut().map(|h| std::mem::take(&mut h.made)).unwrap_or_default())
    }
}

impl Drop for HandoverGuard {
    fn drop(&mut self) {
        let outer = self.outer.take();
        HANDOVER.with_borrow_mut(|slot| *slot = outer);
    }
}

// SAFETY: what it returns obeys the contract of `LinearMemory` above, and the reservation and guard asked for are
// mapped in full or the call fails.
unsafe impl MemoryCreator for MemoryPool {
    fn new_memory(
        &self,
        ty: MemoryType,
        minimum: usize,
        maximum: Option<usize>,
        reserved: Option<usize>,
        guard: usize,
    ) -> Result<Box<dyn LinearMemory>, String> {
        let capacity = reserved.ok_or("make a memory without a reservation")?;
        if ty.is_64() || ty.is_shared() || ty.page_size() != WASM_PAGE as u64 {
            return Err("make a memory that is shared, 64-bit or of another page size".into());
        }
        if minimum > capacity {
            return Err(format!("make a memory of at least {minimum} bytes: the reservation has {capacity}"));
        }
        let asked = HANDOVER.with_borrow(|slot| slot.as_ref().and_then(|h| h.initial_size));
        let size = asked.unwrap_or(minimum);
        if size < minimum || !size.is_multiple_of(WASM_PAGE) || maximum.is_some_and(|m| size > m) {
            return Err(format!("make a memory of {size} bytes: its type allows {minimum} to {maximum:?}"));
        }
        let region = Arc::new(Region::new(&self.0, size, capacity, guard)?);
        HANDOVER.with_borrow_mut(|slot| {
            if let Some(handover) = slot.as_mut() {
                handover.made.push(region.clone());
            }
        });
        Ok(Box::new(HostMemory(region)))
    }
}

/// A store with the linear memories of the guest that lives in it.
///
/// It is used through `AsContext`/`AsContextMut`; the store itself is not given out (see the module's text).
pub struct GuestStore<T: 'static> {
    store: Store<T>,
    regions: Vec<Arc<Region>>,
}

impl<T: Send + 'static> GuestStore<T> {
    pub fn new(engine: &Engine, data: T) -> Self {
        Self { store: Store::new(engine, data), regions: Vec::new() }
    }

    /// Sets what decides about growth; see [`Store::limiter`].
    pub fn limiter(
        &mut self,
        limiter: impl (FnMut(&mut T) -> &mut dyn wasmtime::ResourceLimiter) + Send + Sync + 'static,
    ) {
        self.store.limiter(limiter);
    }

    /// What the store holds beside the guest.
    pub fn data(&self) -> &T {
        self.store.data()
    }

    pub fn data_mut(&mut self) -> &mut T {
        self.store.data_mut()
    }

    /// Makes an instance. `initial_size` is the size in bytes that its memory begins with, where that is to be more
    /// than the declared minimum (a memory image is laid next); only for components with one memory.
    pub fn instantiate(&mut self, pre: &InstancePre<T>, initial_size: Option<usize>) -> wasmtime::Result<Instance> {
        let guard = HandoverGuard::install(initial_size);
        let instance = pre.instantiate(&mut self.store)?;
        self.regions.append(&mut HandoverGuard::take());
        drop(guard);
        Ok(instance)
    }

    /// The memory of an idle guest, if it has exactly one.
    pub fn memory(&mut self) -> Option<&[u8]> {
        let [region] = self.regions.as_slice() else {
            return None;
        };
        // SAFETY: `[0, size)` is mapped, readable and initialised for as long as the region lives, which is at least
        // as long as the borrow; `&mut self` keeps the guest from running and anybody else from writing meanwhile.
        Some(unsafe { std::slice::from_raw_parts(region.base(), region.size()) })
    }

    /// The same, to lay a memory image.
    pub fn memory_mut(&mut self) -> Option<&mut [u8]> {
        let [region] = self.regions.as_slice() else {
            return None;
        };
        // SAFETY: as in `memory`, and the borrow is exclusive.
        Some(unsafe { std::slice::from_raw_parts_mut(region.base(), region.size()) })
    }

    /// Bytes that the guest's memories may make resident.
    pub fn memory_bytes(&self) -> usize {
        self.regions.iter().map(|r| r.size()).sum()
    }
}

impl<T: 'static> AsContext for GuestStore<T> {
    type Data = T;

    fn as_context(&self) -> StoreContext<'_, T> {
        self.store.as_context()
    }
}

impl<T: 'static> AsContextMut for GuestStore<T> {
    fn as_context_mut(&mut self) -> StoreContextMut<'_, T> {
        self.store.as_context_mut()
    }
}

impl<T: 'static> std::fmt::Debug for GuestStore<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GuestStore").field("regions", &self.regions.len()).finish_non_exhaustive()
    }
}
