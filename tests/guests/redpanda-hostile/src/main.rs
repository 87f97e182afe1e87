//! Does what a record's value says, with the SDK of Redpanda's data transforms: all of it things that a host must survive.
//! Other values are passed on. With the variable `NEVER_START`, it never starts.

#![expect(clippy::print_stdout, reason = "what a module prints is a part of what it does")]

use std::env;
use std::hint::black_box;
use std::process;

use redpanda_transform_sdk::{RecordWriter, WriteError, WriteEvent, WriteOptions, on_record_written};

/// What the SDK makes of an error is a panic, which shows it as `Debug` does.
#[derive(Debug)]
#[expect(dead_code, reason = "the SDK shows it")]
enum Failure {
    Told(&'static str),
    Write(WriteError),
}

fn main() {
    if env::var_os("NEVER_START").is_some() {
        forever();
    }
    on_record_written(obey)
}

fn obey(event: WriteEvent<'_>, writer: &mut RecordWriter<'_>) -> Result<(), Failure> {
    match event.record.value().unwrap_or_default() {
        b"fail" => return Err(Failure::Told("told to fail")),
        b"panic" => panic!("told to panic"),
        b"loop" => forever(),
        b"print much" => println!("{}", "much ".repeat(1 << 19)),
        b"exit" => process::exit(3),
        b"eat memory" => {
            let mut eaten = Vec::new();
            loop {
                eaten.push(black_box(vec![1_u8; 1 << 20]));
            }
        }
        b"flood outputs" => loop {
            writer.write(&event.record).map_err(Failure::Write)?;
        },
        b"unknown topic" => {
            let options = WriteOptions::to_topic("nowhere");
            writer.write_with_options(&event.record, options).map_err(Failure::Write)?;
        }
        _ => {}
    }
    writer.write(event.record).map_err(Failure::Write)
}

fn forever() -> ! {
    loop {
        black_box(());
    }
}
