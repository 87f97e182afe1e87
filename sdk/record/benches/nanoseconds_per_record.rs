//! What a record costs: checked, read, copied into another batch, built, and through each codec.
//!
//! `cargo bench -p millstream-record`. Each figure is the fastest of many rounds, on one core.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use millstream_record::{BatchBuilder, Compression, Header, RecordBatch, RecordIter, compress, decompress};

const RECORDS: usize = 1000;
const BATCH_BYTES_MAX: usize = 16 << 20;
const TIME_PER_FIGURE: Duration = Duration::from_millis(300);

fn main() {
    // `cargo test` runs a benchmark once, to see that it works.
    let time = if std::env::args().any(|arg| arg == "--bench") { TIME_PER_FIGURE } else { Duration::ZERO };
    for (value_bytes, headers) in [(100, 0), (100, 2), (1024, 0)] {
        println!("{value_bytes} B values, {headers} headers:");
        records(value_bytes, headers, time);
    }
}

fn records(value_bytes: usize, headers: usize, time: Duration) {
    let value = line(value_bytes);
    let headers = &[Header { key: b"trace", value: Some(b"0123456789abcdef") }; 2][..headers];
    let build = || {
        let mut builder = BatchBuilder::new(BATCH_BYTES_MAX);
        for i in 0..RECORDS {
            let (timestamp, key) = (1_700_000_000_000 + i as i64, (i as u64).to_be_bytes());
            builder
                .append(timestamp, Some(&key), Some(&value), headers.iter().copied())
                .expect("the records fit");
        }
        builder.finish().expect("there are records")
    };
    figure("build", time, build);
    let bytes = build();
    let batch = RecordBatch::new(&bytes).expect("it is a batch");
    let section = batch.records_section();
    figure("verify_crc", time, || batch.verify_crc());
    figure("validate_records", time, || batch.validate_records(section));
    figure("iterate", time, || {
        RecordIter::new(section).flatten().map(|record| record.value.map(<[u8]>::len)).last()
    });
    figure("copy bodies", time, || {
        let mut builder = BatchBuilder::new(BATCH_BYTES_MAX);
        for record in RecordIter::new(section).flatten() {
            builder.append_body(batch.timestamp_of(&record), record.body).expect("the records fit");
        }
        builder.finish().expect("there are records")
    });
    let mut out = Vec::new();
    for codec in &Compression::ALL[1..] {
        let mut compressed = Vec::new();
        figure(&format!("compress {codec}"), time, || {
            compressed.clear();
            compress(*codec, section, &mut compressed)
        });
        figure(&format!("decompress {codec}"), time, || {
            out.clear();
            decompress(*codec, &compressed, section.len(), &mut out)
        });
    }
}

fn figure<T>(name: &str, time: Duration, mut run: impl FnMut() -> T) {
    let mut fastest = Duration::MAX;
    let begin = Instant::now();
    loop {
        let round = Instant::now();
        black_box(run());
        fastest = fastest.min(round.elapsed());
        if begin.elapsed() >= time {
            break;
        }
    }
    let nanoseconds = fastest.as_secs_f64() * 1e9 / RECORDS as f64;
    println!("  {name:<20} {nanoseconds:>8.1} ns/record");
}

/// Text that compresses as logs do.
fn line(bytes: usize) -> Vec<u8> {
    (0..).flat_map(|i: u32| format!("GET /item/{} 200 ", i * 7919 % 1013).into_bytes()).take(bytes).collect()
}
