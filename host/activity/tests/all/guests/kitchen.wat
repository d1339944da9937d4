;; Activities that the tests need, chosen by the first letter of the name. Inputs are JSON strings without escapes.
;; Memory: 64 results, 128 scratch, 512 constants, 4096 file contents, 8192 and 12288 environment, 20480 descriptions.
(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ_sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_get" (func $environ (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 64)
  (global $bump (mut i32) (i32.const 1048576))
  (data (i32.const 512) "errno")
  (data (i32.const 520) "null")
  (data (i32.const 528) "\"\"")
  (data (i32.const 532) "{not json")
  (data (i32.const 544) "written")
  (data (i32.const 552) "declined")
  (data (i32.const 560) "the card was declined")
  (data (i32.const 592) "{\"card\":\"0002\"}")
  ;;NAMES

  (func (export "cabi_realloc") (param $old i32) (param $size i32) (param $align i32) (param $new i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and
      (i32.add (global.get $bump) (i32.sub (local.get $align) (i32.const 1)))
      (i32.sub (i32.const 0) (local.get $align))))
    (global.set $bump (i32.add (local.get $at) (local.get $new)))
    (block $done
      (loop $more
        (br_if $done (i32.le_u (global.get $bump) (i32.mul (memory.size) (i32.const 65536))))
        (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))
        unreachable))
    (memory.copy (local.get $at) (local.get $old) (local.get $size))
    (local.get $at))

  (func (export "relive:activity/handler@0.1.0#describe") (result i32)
    ;;DESCRIBE
    (i32.store (i32.const 64) (i32.const 20480))
    (i32.store (i32.const 68) (i32.const NAME_COUNT))
    (i32.const 64))

  (func $ok (param $at i32) (param $length i32) (result i32)
    (i32.store8 (i32.const 64) (i32.const 0))
    (i32.store (i32.const 68) (local.get $at))
    (i32.store (i32.const 72) (local.get $length))
    (i32.const 64))

  (func $fail (param $code i32) (param $code_len i32) (param $text i32) (param $text_len i32) (result i32)
    (i32.store8 (i32.const 64) (i32.const 1))
    (i32.store (i32.const 68) (local.get $code))
    (i32.store (i32.const 72) (local.get $code_len))
    (i32.store (i32.const 76) (local.get $text))
    (i32.store (i32.const 80) (local.get $text_len))
    (i32.store8 (i32.const 84) (i32.const 0))
    (i32.store8 (i32.const 96) (i32.const 0))
    (i32.const 64))

  ;; A failure with the code "errno" and the number in three digits.
  (func $errno (param $number i32) (result i32)
    (i32.store8 (i32.const 128) (i32.add (i32.const 48) (i32.div_u (local.get $number) (i32.const 100))))
    (i32.store8 (i32.const 129)
      (i32.add (i32.const 48) (i32.rem_u (i32.div_u (local.get $number) (i32.const 10)) (i32.const 10))))
    (i32.store8 (i32.const 130) (i32.add (i32.const 48) (i32.rem_u (local.get $number) (i32.const 10))))
    (call $fail (i32.const 512) (i32.const 5) (i32.const 128) (i32.const 3)))

  ;; Opens the input, a JSON string, as a path in the first granted directory; the descriptor goes to 140.
  (func $open (param $input i32) (param $length i32) (param $create i32) (param $rights i64) (result i32)
    (call $path_open (i32.const 3) (i32.const 1)
      (i32.add (local.get $input) (i32.const 1)) (i32.sub (local.get $length) (i32.const 2))
      (local.get $create) (local.get $rights) (i64.const 0) (i32.const 0) (i32.const 140)))

  (func $read (param $input i32) (param $length i32) (result i32)
    (local $error i32)
    (local.set $error (call $open (local.get $input) (local.get $length) (i32.const 0) (i64.const 2)))
    (if (local.get $error) (then (return (call $errno (local.get $error)))))
    (i32.store (i32.const 144) (i32.const 4097))
    (i32.store (i32.const 148) (i32.const 4000))
    (local.set $error (call $fd_read (i32.load (i32.const 140)) (i32.const 144) (i32.const 1) (i32.const 152)))
    (if (local.get $error) (then (return (call $errno (local.get $error)))))
    (i32.store8 (i32.const 4096) (i32.const 34))
    (i32.store8 (i32.add (i32.const 4097) (i32.load (i32.const 152))) (i32.const 34))
    (call $ok (i32.const 4096) (i32.add (i32.load (i32.const 152)) (i32.const 2))))

  (func $write (param $input i32) (param $length i32) (result i32)
    (local $error i32)
    (local.set $error (call $open (local.get $input) (local.get $length) (i32.const 9) (i64.const 64)))
    (if (local.get $error) (then (return (call $errno (local.get $error)))))
    (i32.store (i32.const 144) (i32.const 544))
    (i32.store (i32.const 148) (i32.const 7))
    (local.set $error (call $fd_write (i32.load (i32.const 140)) (i32.const 144) (i32.const 1) (i32.const 152)))
    (if (local.get $error) (then (return (call $errno (local.get $error)))))
    (call $ok (i32.const 520) (i32.const 4)))

  ;; All variables, as "A=1;B=2;".
  (func $env (result i32)
    (local $at i32) (local $end i32)
    (drop (call $environ_sizes (i32.const 160) (i32.const 164)))
    (if (i32.eqz (i32.load (i32.const 160))) (then (return (call $ok (i32.const 528) (i32.const 2)))))
    (drop (call $environ (i32.const 8192) (i32.const 12289)))
    (local.set $at (i32.const 12289))
    (local.set $end (i32.add (local.get $at) (i32.load (i32.const 164))))
    (loop $next
      (if (i32.eqz (i32.load8_u (local.get $at))) (then (i32.store8 (local.get $at) (i32.const 59))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $at) (local.get $end))))
    (i32.store8 (i32.const 12288) (i32.const 34))
    (i32.store8 (local.get $end) (i32.const 34))
    (call $ok (i32.const 12288) (i32.sub (i32.add (local.get $end) (i32.const 1)) (i32.const 12288))))

  ;; Writes 2 MiB to stdout.
  (func $print (result i32)
    (local $left i32)
    (memory.fill (i32.const 131072) (i32.const 120) (i32.const 65536))
    (i32.store (i32.const 144) (i32.const 131072))
    (i32.store (i32.const 148) (i32.const 65536))
    (local.set $left (i32.const 32))
    (loop $next
      (if (call $fd_write (i32.const 1) (i32.const 144) (i32.const 1) (i32.const 152)) (then unreachable))
      (local.set $left (i32.sub (local.get $left) (i32.const 1)))
      (br_if $next (local.get $left)))
    (call $ok (i32.const 520) (i32.const 4)))

  ;; Takes memory until it is refused, and traps as an allocator does.
  (func $memory (result i32)
    (loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
    unreachable)

  ;; A JSON string a little over 2 MiB.
  (func $big (result i32)
    (memory.fill (i32.const 1048576) (i32.const 120) (i32.const 2097300))
    (i32.store8 (i32.const 1048576) (i32.const 34))
    (i32.store8 (i32.const 3145874) (i32.const 34))
    (call $ok (i32.const 1048576) (i32.const 2097299)))

  ;; Fills all its memory over and over: few instructions, much time.
  (func $zero (result i32)
    (loop $again
      (memory.fill (i32.const 1048576) (i32.const 0) (i32.const 3000000))
      (br $again))
    unreachable)

  (func (export "relive:activity/handler@0.1.0#run")
    (param $name i32) (param $name_len i32) (param $input i32) (param $length i32) (param $key i32) (param $key_len i32)
    (param $attempt i32) (param $wid i32) (param $wid_len i32) (param $rid i32) (param $rid_len i32)
    (param $has_cid i32) (param $cid i32) (param $cid_len i32) (result i32)
    (local $c i32)
    (local.set $c (i32.load8_u (local.get $name)))
    (if (i32.eq (local.get $c) (i32.const 98)) (then (return (call $big))))
    (if (i32.eq (local.get $c) (i32.const 101)) (then
      (if (i32.eq (i32.load8_u offset=1 (local.get $name)) (i32.const 110)) (then (return (call $env))))
      (return (call $ok (local.get $input) (local.get $length)))))
    (if (i32.eq (local.get $c) (i32.const 102)) (then
      (return (call $fail (i32.const 552) (i32.const 8) (i32.const 560) (i32.const 21)))))
    (if (i32.eq (local.get $c) (i32.const 103)) (then (return (call $ok (i32.const 532) (i32.const 9)))))
    (if (i32.eq (local.get $c) (i32.const 108)) (then (loop $l (br $l))))
    (if (i32.eq (local.get $c) (i32.const 109)) (then (return (call $memory))))
    (if (i32.eq (local.get $c) (i32.const 112)) (then (return (call $print))))
    (if (i32.eq (local.get $c) (i32.const 113)) (then (call $exit (i32.const 3))))
    (if (i32.eq (local.get $c) (i32.const 114)) (then (return (call $read (local.get $input) (local.get $length)))))
    (if (i32.eq (local.get $c) (i32.const 119)) (then (return (call $write (local.get $input) (local.get $length)))))
    (if (i32.eq (local.get $c) (i32.const 122)) (then (return (call $zero))))
    unreachable)
)
