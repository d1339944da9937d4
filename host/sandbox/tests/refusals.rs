//! Uploads that are refused before anything runs: each by its code, with a message that names what was wrong.

mod support;

use relive_sandbox::{AdmissionError, ComponentKind};
use support::{GuestText, refusal, sandbox};

fn refused(upload: &[u8]) -> (&'static str, String) {
    refusal(sandbox().admit(upload))
}

fn wat(text: &str) -> Vec<u8> {
    wat::parse_str(text).expect("the test's text is well-formed")
}

#[test]
fn what_is_not_webassembly() {
    for upload in [&b"#!/bin/sh\n"[..], b"", b"PK\x03\x04", b"\x7fELF", &[0; 100]] {
        let (code, message) = refused(upload);
        assert_eq!(code, "not-wasm", "{message}");
        assert!(message.contains("upload the .wasm file"), "{message}");
    }
}

#[test]
fn a_truncated_component_anywhere() {
    let component = GuestText::default().component();
    let sandbox = sandbox();
    let mut codes = std::collections::BTreeMap::new();
    for cut in (1..component.len()).step_by(7) {
        // A cut between two sections at the end leaves a component that lacks nothing but notes of the toolchain.
        let Err(error) = sandbox.check(&component[..cut]) else {
            continue;
        };
        let code = error.code();
        *codes.entry(code).or_insert(0) += 1;
    }
    let allowed = ["truncated", "invalid", "no-workflow"];
    assert!(codes.keys().all(|code| allowed.contains(code)), "{codes:?}");
    assert!(codes["truncated"] > codes.values().sum::<i32>() / 2, "{codes:?}");
}

#[test]
fn flipped_bits_never_panic() {
    let component = GuestText::default().component();
    let sandbox = sandbox();
    for at in (0..component.len()).step_by(5) {
        let mut flipped = component.clone();
        flipped[at] ^= 1 << (at % 8);
        let _ = sandbox.check(&flipped);
    }
}

#[test]
fn a_core_module_without_metadata() {
    let (code, message) = refused(&wat("(module (func (export \"run\")))"));
    assert_eq!(code, "no-metadata");
    assert!(message.contains("wit-bindgen"), "{message}");
}

#[test]
fn a_preview_1_command() {
    let text = r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func (param i32))) (func (export "_start")))"#;
    let (code, message) = refused(&wat(text));
    assert_eq!(code, "preview1-module");
    assert!(message.contains("build a reactor"), "{message}");
}

#[test]
fn metadata_that_the_module_does_not_keep() {
    let text = GuestText::default().module_text().replace("#start\"", "#begin\"");
    let mut module = wat(&text);
    // The metadata of a guest that is as it should be.
    let good = GuestText::default().module();
    let plain = wat(&GuestText::default().module_text());
    module.extend_from_slice(&good[plain.len()..]);
    let (code, message) = refused(&module);
    assert_eq!(code, "not-componentizable", "{message}");
}

#[test]
fn a_foreign_import_is_named() {
    let (code, message) = refused(&wat(r#"(component (import "golem:api/host@0.2.0" (instance)))"#));
    assert_eq!(code, "import-refused");
    assert!(message.contains("`golem:api/host@0.2.0`") && message.contains("another host's"), "{message}");
    let (code, message) = refused(&wat(r#"(component (import "sleep" (func)))"#));
    assert_eq!((code, message.contains("`sleep`")), ("import-refused", true), "{message}");
}

#[test]
fn an_unknown_version_of_ours_is_told_from_an_unknown_interface() {
    let (code, message) = refused(&wat(r#"(component (import "relive:workflow/durable@0.7.0" (instance)))"#));
    assert_eq!(code, "unknown-interface-version");
    assert!(message.contains("durable@0.7.0") && message.contains("version 0.1.0"), "{message}");
    let (code, message) = refused(&wat(r#"(component (import "relive:workflow/teleport@0.1.0" (instance)))"#));
    assert_eq!(code, "unknown-interface", "{message}");
    let (code, _) =
        refused(&wat(r#"(component (instance $i) (export "relive:workflow/reactor@0.9.0" (instance $i)))"#));
    assert_eq!(code, "unknown-interface-version");
}

#[test]
fn wasi_is_for_activities() {
    let workflow = r#"(component (import "wasi:clocks/wall-clock@0.2.0" (instance)) (instance $i)
        (export "relive:workflow/reactor@0.1.0" (instance $i)))"#;
    let (code, message) = refused(&wat(workflow));
    assert_eq!((code, message.contains("wasm32-unknown-unknown")), ("import-refused", true), "{message}");
    let activity = workflow.replace("relive:workflow/reactor", "relive:activity/handler");
    let admitted = sandbox().admit(&wat(&activity)).expect("an activity may");
    assert_eq!(admitted.inspection.kind, ComponentKind::Activity);
    let newer = activity.replace("@0.2.0", "@0.3.0");
    assert_eq!(refused(&wat(&newer)).0, "import-refused");
}

#[test]
fn no_workflow_exported() {
    let (code, message) = refused(&wat("(component)"));
    assert_eq!((code, message.contains("it exports nothing")), ("no-workflow", true), "{message}");
    let (_, message) = refused(&wat(r#"(component (instance $i) (export "wasi:cli/run@0.2.0" (instance $i)))"#));
    assert!(message.contains("`wasi:cli/run@0.2.0`"), "{message}");
}

#[test]
fn exports_of_other_types_than_the_contract() {
    let (code, message) =
        refused(&wat(r#"(component (instance $i) (export "relive:workflow/reactor@0.1.0" (instance $i)))"#));
    assert_eq!(code, "contract-mismatch", "{message}");
    let text = r#"(component
        (import "relive:workflow/durable@0.1.0" (instance (export "now" (func (result string)))))
        (instance $i) (export "relive:workflow/reactor@0.1.0" (instance $i)))"#;
    let (code, message) = refused(&wat(text));
    assert_eq!((code, message.contains("durable")), ("contract-mismatch", true), "{message}");
}

#[test]
fn too_large_in_any_direction() {
    let mut huge = wat("(component)");
    huge.resize(33 << 20, 0);
    let many = |n: usize, item: &str| format!("(component (core module {}))", item.repeat(n));
    let modules = format!("(component {})", "(core module)".repeat(65));
    let deep = format!("{}{}", "(component ".repeat(9), ")".repeat(9));
    let body = format!("(component (core module (func {})))", "i32.const 0 drop ".repeat(400_000));
    let cases = [
        ("too-large", huge),
        ("too-many-functions", wat(&many(50_001, "(func)"))),
        ("function-too-large", wat(&body)),
        ("too-many-modules", wat(&modules)),
        ("nested-too-deep", wat(&deep)),
        ("too-many-memories", wat(&many(5, "(memory 1)"))),
        ("too-many-tables", wat(&many(65, "(table 1 funcref)"))),
        ("table-too-large", wat("(component (core module (table 100001 funcref)))")),
        ("too-many-globals", wat(&many(50_001, "(global i32 (i32.const 0))"))),
    ];
    for (expected, upload) in cases {
        let (code, message) = refused(&upload);
        assert_eq!(code, expected, "{message}");
        assert!(message.contains("at most"), "{message}");
    }
}

#[test]
fn features_that_are_off() {
    let cases = [
        "(memory i64 1)",
        "(memory 1 1 shared)",
        "(memory 1) (memory 1)",
        "(type (struct))",
        "(tag)",
        "(func (param externref))",
        "(func (result v128) v128.const i64x2 0 0 v128.const i64x2 0 0 i8x16.relaxed_swizzle)",
    ];
    for text in cases {
        let upload = wat(&format!(
            "(component (core module {text}) (instance $i)
            (export \"relive:workflow/reactor@0.1.0\" (instance $i)))"
        ));
        let (code, message) = refused(&upload);
        assert_eq!(code, "invalid", "{text}: {message}");
    }
}

#[test]
fn a_declared_count_allocates_nothing() {
    // A type section that claims 4 billion types in a module of a few bytes.
    let upload = b"\0asm\x01\0\0\0\x01\x05\xff\xff\xff\xff\x0f";
    let (code, message) = refused(upload);
    assert!(["too-many-items", "invalid", "truncated"].contains(&code), "{code}: {message}");
}

#[test]
fn why_no_memory_image() {
    let reason = |text: GuestText| {
        let inspection = sandbox().check(&text.component()).expect("admitted");
        inspection.image.expect_err("not eligible")
    };
    let table = GuestText {
        fields: "(table $t 1 funcref) (func (export \"x\") (table.set $t (i32.const 0) (ref.null func)))",
        ..GuestText::default()
    };
    assert!(reason(table).contains("table.set"));
    let globals = GuestText { fields: "(global (mut funcref) (ref.null func))", ..GuestText::default() };
    assert!(reason(globals).contains("mutable global"));
    let segment = GuestText {
        fields: "(data $d \"x\") (func (export \"x\") (memory.init $d (i32.const 0) (i32.const 0) (i32.const 1)))",
        ..GuestText::default()
    };
    assert!(reason(segment).contains("memory.init"));
    let calls =
        GuestText { imports: support::NOW, fields: "(func $f (drop (call $now))) (start $f)", ..GuestText::default() };
    let admitted = sandbox().admit(&calls.component());
    // wit-component's shim is filled after the main module was instantiated: such a call traps, others show.
    match admitted {
        Ok(admitted) => assert!(admitted.inspection.image.is_err()),
        Err(error) => assert_eq!(error.code(), "instantiate-trap"),
    }
}

#[test]
fn an_error_says_whose_fault_it_is() {
    assert!(AdmissionError::NoMetadata.is_uploads_fault());
    assert!(!AdmissionError::Load { message: String::new() }.is_uploads_fault());
}

/// Found by damaged copies of a real guest: one letter of an interface's name, and its package and the world's need
/// each other.
#[test]
fn packages_that_need_each_other_do_not_take_the_host_down() {
    let module = GuestText { imports: support::TIMER, ..GuestText::default() }.module();
    let (from, to) = (b"relive:workflow/durable@0.1.0", b"relive:workfloq/durable@0.1.0");
    let metadata = wat(&GuestText { imports: support::TIMER, ..GuestText::default() }.module_text()).len();
    let mut damaged = module.clone();
    let mut found = 0;
    for at in metadata..damaged.len() - from.len() {
        if damaged[at..].starts_with(from) {
            damaged[at..at + to.len()].copy_from_slice(to);
            found += 1;
        }
    }
    assert!(found > 0, "the metadata names the interface");
    let (code, message) = refused(&damaged);
    assert_eq!((code, message.contains("circle")), ("not-componentizable", true), "{message}");
}
