//! Reads outputs back. They come from this crate, so what does not fit is a fault of its own.

use millstream_record::RecordBody;
use millstream_record::varint::{take_varint, take_varlong};

use super::{Emitted, Input};
use crate::output::packed::{BODY, PARTITION, RUN, TIMESTAMP, TOPIC};
use crate::output::{TypedBody, TypedOutput};

pub(super) fn packed(mut packed: &[u8], inputs: &[Input]) -> Vec<Emitted> {
    let mut outputs = Vec::new();
    let mut last_index = -1;
    while let [flags, rest @ ..] = packed {
        packed = rest;
        let first = last_index + varint(&mut packed);
        let count = if flags & RUN == 0 { 1 } else { varint(&mut packed) };
        assert!(count >= 1, "an empty run");
        let topic = (flags & TOPIC != 0).then(|| text(field(&mut packed)));
        let partition = (flags & PARTITION != 0).then(|| varint(&mut packed).cast_unsigned());
        let timestamp =
            (flags & TIMESTAMP != 0).then(|| take_varlong(&mut packed).expect("a timestamp is a varlong"));
        let body = (flags & BODY != 0)
            .then(|| RecordBody::parse(field(&mut packed)).expect("a body is like a record's"));
        for index in first..first + count {
            let index = usize::try_from(index).expect("an index is not negative");
            let mut output = Emitted { topic: topic.clone(), partition, ..unchanged(index, &inputs[index]) };
            output.timestamp = timestamp.unwrap_or(output.timestamp);
            if let Some(body) = body {
                set_body(&mut output, body);
            }
            outputs.push(output);
        }
        last_index = first + count - 1;
    }
    outputs
}

pub(super) fn typed(outputs: Vec<TypedOutput>, inputs: &[Input]) -> Vec<Emitted> {
    let emitted = |output: TypedOutput| {
        let TypedOutput { index, topic, partition, timestamp, body } = output;
        let mut emitted = unchanged(index as usize, &inputs[index as usize]);
        emitted = Emitted { topic, partition, timestamp: timestamp.unwrap_or(emitted.timestamp), ..emitted };
        match body {
            Some(TypedBody { key, value, headers }) => {
                Emitted { unchanged: false, key, value, headers, ..emitted }
            }
            None => emitted,
        }
    };
    outputs.into_iter().map(emitted).collect()
}

fn unchanged(index: usize, input: &Input) -> Emitted {
    Emitted {
        input: index,
        unchanged: true,
        topic: None,
        partition: None,
        timestamp: input.timestamp,
        key: input.key.clone(),
        value: input.value.clone(),
        headers: input.headers.clone(),
    }
}

fn set_body(output: &mut Emitted, body: RecordBody<'_>) {
    let (key, value, headers) = body.fields();
    output.unchanged = false;
    output.key = key.map(<[u8]>::to_vec);
    output.value = value.map(<[u8]>::to_vec);
    output.headers = headers.map(|header| (text(header.key), header.value.map(<[u8]>::to_vec))).collect();
}

fn varint(packed: &mut &[u8]) -> i32 {
    take_varint(packed).expect("a number is a varint")
}

fn field<'a>(packed: &mut &'a [u8]) -> &'a [u8] {
    let length = usize::try_from(varint(packed)).expect("a length is not negative");
    let (field, rest) = packed.split_at(length);
    *packed = rest;
    field
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
