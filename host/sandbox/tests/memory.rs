//! The host's memories: what is accessible, what a reused reservation shows, and what is refused.

use relive_sandbox::{EngineKind, GuestStore, MemoryPool, SandboxEngine, WASM_PAGE};
use wasmtime::component::{Component, InstancePre, Linker, TypedFunc};
use wasmtime::{AsContextMut, MemoryCreator, MemoryType, Trap};

/// A component with functions `peek`, `poke` and `grow` over one memory.
fn component(memory: &str) -> Vec<u8> {
    let text = format!(
        r#"(component
          (core module $m
            (memory (export "memory") {memory})
            (data (i32.const 8) "fresh")
            (func (export "peek") (param i32) (result i32) (i32.load8_u (local.get 0)))
            (func (export "far") (param i32) (result i32) (i32.load8_u offset=33554000 (local.get 0)))
            (func (export "poke") (param i32 i32) (i32.store8 (local.get 0) (local.get 1)))
            (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0))))
          (core instance $i (instantiate $m))
          (func (export "peek") (param "a" u32) (result u32) (canon lift (core func $i "peek")))
          (func (export "far") (param "a" u32) (result u32) (canon lift (core func $i "far")))
          (func (export "poke") (param "a" u32) (param "v" u32) (canon lift (core func $i "poke")))
          (func (export "grow") (param "a" u32) (result u32) (canon lift (core func $i "grow"))))"#
    );
    wat::parse_str(text).expect("well-formed")
}

struct Guest {
    store: GuestStore<()>,
    peek: TypedFunc<(u32,), (u32,)>,
    far: TypedFunc<(u32,), (u32,)>,
    poke: TypedFunc<(u32, u32), ()>,
    grow: TypedFunc<(u32,), (u32,)>,
}

fn prepare(engine: &SandboxEngine, memory: &str) -> InstancePre<()> {
    let component = Component::new(engine.engine(), component(memory)).expect("compiles");
    Linker::new(engine.engine()).instantiate_pre(&component).expect("links")
}

fn guest(engine: &SandboxEngine, pre: &InstancePre<()>, initial: Option<usize>) -> Guest {
    let mut store = GuestStore::new(engine.engine(), ());
    store.as_context_mut().set_fuel(1_000_000).expect("fuel");
    let instance = store.instantiate(pre, initial).expect("an instance");
    let peek = instance.get_typed_func(store.as_context_mut(), "peek").expect("peek");
    let far = instance.get_typed_func(store.as_context_mut(), "far").expect("far");
    let poke = instance.get_typed_func(store.as_context_mut(), "poke").expect("poke");
    let grow = instance.get_typed_func(store.as_context_mut(), "grow").expect("grow");
    Guest { store, peek, far, poke, grow }
}

impl Guest {
    fn peek(&mut self, at: usize) -> Result<u32, Trap> {
        let result = self.peek.call(self.store.as_context_mut(), (at as u32,));
        result.map(|(v,)| v).map_err(|e| *e.downcast_ref::<Trap>().expect("a trap"))
    }

    fn poke(&mut self, at: usize, value: u32) {
        self.poke.call(self.store.as_context_mut(), (at as u32, value)).expect("in bounds");
    }

    fn grow(&mut self, pages: u32) -> i32 {
        self.grow.call(self.store.as_context_mut(), (pages,)).expect("no trap").0 as i32
    }
}

fn engine() -> SandboxEngine {
    SandboxEngine::new(EngineKind::Workflow, true).expect("an engine")
}

#[test]
fn memory_ends_where_it_says_also_after_growth_and_reuse() {
    let engine = engine();
    let pre = prepare(&engine, "1");
    let mut first = guest(&engine, &pre, None);
    assert_eq!(first.peek(WASM_PAGE - 1), Ok(0));
    assert_eq!(first.peek(WASM_PAGE), Err(Trap::MemoryOutOfBounds));
    drop(first);
    let mut second = guest(&engine, &pre, None);
    assert_eq!(second.grow(3), 1);
    for at in [0, WASM_PAGE, 4 * WASM_PAGE - 1] {
        second.poke(at, 0xAB);
    }
    assert_eq!(second.store.memory_bytes(), 4 * WASM_PAGE);
    assert_eq!(engine.memory().stats().live_bytes, 4 * WASM_PAGE);
    assert_eq!(second.peek(4 * WASM_PAGE), Err(Trap::MemoryOutOfBounds));
    drop(second);
    let stats = engine.memory().stats();
    assert_eq!((stats.live, stats.live_bytes, stats.idle, stats.maps), (0, 0, 1, 1));
    // The same reservation: the last tenant had four pages, this one has one.
    let mut third = guest(&engine, &pre, None);
    assert_eq!(engine.memory().stats().idle, 0);
    assert_eq!(third.peek(WASM_PAGE), Err(Trap::MemoryOutOfBounds));
    drop(third);
    let mut fourth = guest(&engine, &pre, None);
    assert_eq!(fourth.peek(0), Ok(0), "the last tenant's byte is gone");
    assert_eq!(fourth.grow(3), 1);
    assert_eq!(fourth.peek(WASM_PAGE), Ok(0));
    assert_eq!(fourth.peek(4 * WASM_PAGE - 1), Ok(0));
    assert_eq!(&fourth.store.memory().expect("one memory")[8..13], b"fresh");
}

#[test]
fn an_offset_into_the_guard_traps() {
    let engine = engine();
    let pre = prepare(&engine, "1");
    let mut guest = guest(&engine, &pre, None);
    for at in [0, WASM_PAGE as u32, u32::MAX] {
        let error = guest.far.call(guest.store.as_context_mut(), (at,)).expect_err("out of bounds");
        assert_eq!(error.downcast_ref(), Some(&Trap::MemoryOutOfBounds));
        guest = self::guest(&engine, &pre, None);
    }
}

#[test]
fn growth_stops_at_the_declared_maximum() {
    let engine = engine();
    let mut guest = guest(&engine, &prepare(&engine, "1 2"), None);
    assert_eq!(guest.grow(1), 1);
    assert_eq!(guest.grow(1), -1);
    assert_eq!(guest.store.memory_bytes(), 2 * WASM_PAGE);
}

#[test]
fn an_instance_can_begin_larger_than_its_minimum() {
    let engine = engine();
    let pre = prepare(&engine, "1 8");
    let mut larger = guest(&engine, &pre, Some(5 * WASM_PAGE));
    assert_eq!(larger.grow(0), 5, "memory.size shows it");
    larger.store.memory_mut().expect("one memory")[5 * WASM_PAGE - 1] = 9;
    assert_eq!(larger.peek(5 * WASM_PAGE - 1), Ok(9));
    for refused in [1, WASM_PAGE + 1, 9 * WASM_PAGE, 0] {
        let mut store = GuestStore::new(engine.engine(), ());
        store.as_context_mut().set_fuel(1_000_000).expect("fuel");
        assert!(store.instantiate(&pre, Some(refused)).is_err(), "{refused}");
    }
    // The refusals left nothing behind for the next one.
    assert_eq!(guest(&engine, &pre, None).store.memory_bytes(), WASM_PAGE);
}

#[test]
fn a_minimum_above_the_capacity_is_an_error() {
    let pool = MemoryPool::new();
    let ask = |minimum: usize, reserved| {
        pool.new_memory(MemoryType::new(1, None), minimum, None, reserved, 1 << 20).map(|m| m.byte_size())
    };
    assert_eq!(ask(WASM_PAGE, Some(1 << 20)), Ok(WASM_PAGE));
    assert!(ask(2 << 20, Some(1 << 20)).is_err());
    assert!(ask(WASM_PAGE, None).is_err());
    assert!(ask(WASM_PAGE, Some(usize::MAX)).is_err());
    assert!(pool.new_memory(MemoryType::new64(1, None), WASM_PAGE, None, Some(1 << 20), 0).is_err());
    assert_eq!(pool.stats().live, 0);
    pool.trim();
    assert_eq!(pool.stats().idle, 0);
}

#[test]
fn guests_of_many_threads_do_not_mix() {
    let engine = engine();
    let pre = prepare(&engine, "1");
    std::thread::scope(|scope| {
        for thread in 0..4_u32 {
            let (engine, pre) = (&engine, &pre);
            scope.spawn(move || {
                for round in 0..50 {
                    let mut guest = guest(engine, pre, None);
                    guest.poke(100, thread);
                    assert_eq!(guest.store.memory().expect("one memory")[100], thread as u8, "round {round}");
                }
            });
        }
    });
    assert_eq!(engine.memory().stats().live, 0);
}
