//! Guests for tests: core modules in text form, made into components against `sdk/wit`. They do what no compiler would.

use std::fmt::Write as _;
use std::path::Path;

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// A component of the world `batch-transformer` or `transformer` with this core module, whose `$init` and
/// `$transform` the caller writes. See `batch_guest`.
fn component(world: &str, module: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sdk/wit/0.2");
    let (package, _) = resolve.push_path(wit).expect("the contract parses");
    let world = resolve.select_world(&[package], Some(world)).expect("the world exists");
    let mut core = wat::parse_str(module).unwrap_or_else(|error| panic!("{error}\n{module}"));
    embed_component_metadata(&mut core, &resolve, world, StringEncoding::UTF8)
        .expect("metadata fits the module");
    let mut encoder = ComponentEncoder::default();
    let encoder = encoder.validate(true).module(&core).expect("the module fits the world");
    encoder.encode().expect("the component is valid")
}

/// Beginnings of a guest: memory, an allocator that starts over with each call, and an `init` that agrees.
const PRELUDE: &str = r#"
  (memory (export "memory") 1)
  (global $next (mut i32) (i32.const 65536))
  (func $alloc (param $size i32) (result i32)
    (local $at i32) (local $pages i32)
    (local.set $at (global.get $next))
    (global.set $next (i32.and (i32.add (i32.add (local.get $at) (local.get $size)) (i32.const 15)) (i32.const -16)))
    (local.set $pages (i32.add (i32.shr_u (global.get $next) (i32.const 16)) (i32.const 1)))
    (if (i32.gt_u (local.get $pages) (memory.size))
      (then (if (i32.eq (memory.grow (i32.sub (local.get $pages) (memory.size))) (i32.const -1)) (then unreachable))))
    (local.get $at))
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (call $alloc (local.get 3)))
"#;

const INIT_OK: &str =
    "(func $init (param i32 i32) (result i32) (i32.store8 (i32.const 16) (i32.const 0)) (i32.const 16))";

/// The parameters of `transform`: position, topic, partition, base offset, base timestamp, append time, record count, and
/// the list of records; the result is a pointer to what `$ok` and its like write at 32.
const BATCH_PARAMS: &str =
    "(param $stands i32) (param $topic i32) (param $topic_len i32) (param $partition i32) (param $base i64) (param $ts i64)
    (param $has_append i32) (param $append i64) (param $count i32) (param $records i32) (param $len i32)
    (result i32)";

/// Results of `transform`: `ok(outputs)`, `ok(outputs) with one rejection`, `err(retry)`, `err(stop)`.
const RESULTS: &str = r#"
  (data (i32.const 1024) "because")
  (func $ok (param $at i32) (param $len i32) (result i32)
    (i32.store (i32.const 32) (i32.const 0))
    (i32.store (i32.const 36) (local.get $at))
    (i32.store (i32.const 40) (local.get $len))
    (i32.store (i32.const 44) (i32.const 0))
    (i32.store (i32.const 48) (i32.const 0))
    (i32.const 32))
  (func $reject (param $at i32) (param $len i32) (param $index i32) (result i32)
    (drop (call $ok (local.get $at) (local.get $len)))
    (i32.store (i32.const 44) (i32.const 64))
    (i32.store (i32.const 48) (i32.const 1))
    (i32.store (i32.const 64) (local.get $index))
    (i32.store (i32.const 68) (i32.const 1024))
    (i32.store (i32.const 72) (i32.const 7))
    (i32.const 32))
  (func $err (param $which i32) (result i32)
    (i32.store (i32.const 32) (i32.const 1))
    (i32.store (i32.const 36) (local.get $which))
    (i32.store (i32.const 40) (i32.const 1024))
    (i32.store (i32.const 44) (i32.const 7))
    (i32.const 32))
"#;

/// How the tests' guests answer.
pub struct Guest<'a> {
    pub init: &'a str,
    /// Definitions beside the functions: data, globals, helpers.
    pub items: &'a str,
    /// The body of `transform`.
    pub transform: &'a str,
}

impl Guest<'_> {
    fn module(&self, interface: &str, params: &str) -> String {
        let mut module = String::from("(module\n");
        let Self { init, items, transform } = self;
        for part in [PRELUDE, RESULTS, init, items] {
            module.push_str(part);
        }
        let name = format!("millstream:plugin/{interface}@0.2.0");
        let post = "(global.set $next (i32.const 65536))";
        write!(
            module,
            "(export \"{name}#init\" (func $init))
             (func (export \"{name}#transform\") {params} {transform})
             (func (export \"cabi_post_{name}#init\") (param i32) {post})
             (func (export \"cabi_post_{name}#transform\") (param i32) {post}))"
        )
        .expect("a string takes what is written");
        module
    }
}

/// A component with the fast form, whose `transform` has this body.
pub fn batch_guest(transform: &str) -> Vec<u8> {
    batch_guest_of(&Guest { init: INIT_OK, items: "", transform })
}

pub fn batch_guest_of(guest: &Guest<'_>) -> Vec<u8> {
    component("batch-transformer", &guest.module("transform-batch", BATCH_PARAMS))
}

/// A component with the plain form.
pub fn typed_guest(transform: &str) -> Vec<u8> {
    let guest = Guest { init: INIT_OK, items: "", transform };
    component("transformer", &guest.module("transform", BATCH_PARAMS))
}

/// A component with the fast form that imports something.
pub fn with_import(import: &str, transform: &str) -> Vec<u8> {
    let guest = Guest { init: INIT_OK, items: "", transform };
    let module = guest.module("transform-batch", BATCH_PARAMS);
    component("batch-transformer", &module.replacen("(module", &format!("(module {import}"), 1))
}

/// `transform`: returns these bytes as outputs.
pub fn returning(outputs: &[u8]) -> Vec<u8> {
    let items = format!("(data (i32.const 2048) \"{}\")", escaped(outputs));
    let transform = format!("(call $ok (i32.const 2048) (i32.const {}))", outputs.len());
    batch_guest_of(&Guest { init: INIT_OK, items: &items, transform: &transform })
}

fn escaped(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "\\{byte:02x}").expect("a string takes what is written");
        text
    })
}

/// Body of `transform`: one run, whose length is the batch's. Counts are two bytes, so up to 8,191 records.
pub const KEEP_ALL: &str = "
         (i32.store8 (i32.const 2048) (i32.const 0x10))
         (i32.store8 (i32.const 2049) (i32.const 0x02))
         (i32.store8 (i32.const 2050) (i32.or (i32.const 0x80) (i32.and (i32.const 0x7f) (i32.shl (local.get $count) (i32.const 1)))))
         (i32.store8 (i32.const 2051) (i32.shr_u (local.get $count) (i32.const 6)))
         (call $ok (i32.const 2048) (i32.const 4))";

/// Keeps every record.
pub fn identity() -> Vec<u8> {
    batch_guest(KEEP_ALL)
}

/// Of record 0 makes one without key and headers, whose value has so many bytes.
pub fn inflating(value_bytes: u32) -> Vec<u8> {
    let value_length = varint(value_bytes);
    let body_length = varint(1 + value_length.len() as u32 + value_bytes + 1);
    let head = [&[1, 2][..], &body_length, &[1], &value_length].concat();
    let size = head.len() as u32 + value_bytes + 1;
    let items = format!("(data (i32.const 2048) \"{}\")", escaped(&head));
    let transform = format!(
        "(local $out i32)
         (local.set $out (call $alloc (i32.const {size})))
         (memory.fill (local.get $out) (i32.const 0) (i32.const {size}))
         (memory.copy (local.get $out) (i32.const 2048) (i32.const {}))
         (call $ok (local.get $out) (i32.const {size}))",
        head.len()
    );
    batch_guest_of(&Guest { init: INIT_OK, items: &items, transform: &transform })
}

/// Counts to `turns` for each batch, then keeps record 0.
pub fn busy(turns: u32) -> Vec<u8> {
    batch_guest(&format!(
        "(local $i i32)
         (loop $again
           (local.set $i (i32.add (local.get $i) (i32.const 1)))
           (br_if $again (i32.lt_u (local.get $i) (i32.const {turns}))))
         (i32.store8 (i32.const 2048) (i32.const 0)) (i32.store8 (i32.const 2049) (i32.const 2))
         (call $ok (i32.const 2048) (i32.const 2))"
    ))
}

/// A length as records have it.
fn varint(length: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let length = i32::try_from(length).expect("tests use small lengths");
    millstream_record::varint::put_varint(&mut bytes, length);
    bytes
}

/// Keeps every record, in the plain form: an output of 96 bytes for each, all options none but the index.
pub fn typed_identity() -> Vec<u8> {
    typed_guest(
        "(local $out i32) (local $i i32) (local $size i32)
         (local.set $size (i32.mul (local.get $count) (i32.const 80)))
         (local.set $out (call $alloc (local.get $size)))
         (memory.fill (local.get $out) (i32.const 0) (local.get $size))
         (block $done (loop $next
           (br_if $done (i32.ge_u (local.get $i) (local.get $count)))
           (i32.store (i32.add (local.get $out) (i32.mul (local.get $i) (i32.const 80))) (local.get $i))
           (local.set $i (i32.add (local.get $i) (i32.const 1)))
           (br $next)))
         (call $ok (local.get $out) (local.get $count))",
    )
}

/// A valid component with other exports or imports than a plugin's.
pub fn other_component(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap_or_else(|error| panic!("{error}"))
}

pub const AGREE: &str = INIT_OK;

/// An `init` that refuses its configuration with what lies at 1024.
pub const REFUSE: &str = "(func $init (param i32 i32) (result i32) (i32.store8 (i32.const 16) (i32.const 1))
    (i32.store (i32.const 20) (i32.const 1024)) (i32.store (i32.const 24) (i32.const 7)) (i32.const 16))";
