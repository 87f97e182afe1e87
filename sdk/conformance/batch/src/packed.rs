//! The packed encodings, written down from `transform-batch.wit` and from nothing else.

pub(crate) struct Record<'a> {
    pub(crate) timestamp_delta: i64,
    pub(crate) offset_delta: i32,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: Vec<(String, Option<&'a [u8]>)>,
}

pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
}

type Read<T> = Result<T, &'static str>;

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// The next one; none at the end. What its length says is all that it has.
    pub(crate) fn record(&mut self) -> Read<Option<Record<'a>>> {
        if self.bytes.is_empty() {
            return Ok(None);
        }
        let length = usize::try_from(self.varint()?).map_err(|_| "a negative length")?;
        let mut record = Reader { bytes: self.take(length)? };
        record.take(1)?;
        let (timestamp_delta, offset_delta) = (record.varlong()?, record.varint()?);
        let (key, value) = (record.nullable()?, record.nullable()?);
        let mut headers = Vec::new();
        for _ in 0..record.varint()? {
            let key = record.nullable()?.ok_or("a header without a key")?;
            headers.push((String::from_utf8_lossy(key).into_owned(), record.nullable()?));
        }
        if !record.bytes.is_empty() {
            return Err("bytes behind the headers");
        }
        Ok(Some(Record { timestamp_delta, offset_delta, key, value, headers }))
    }

    fn take(&mut self, length: usize) -> Read<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(length).ok_or("it ends too early")?;
        self.bytes = rest;
        Ok(taken)
    }

    fn nullable(&mut self) -> Read<Option<&'a [u8]>> {
        match self.varint()? {
            -1 => Ok(None),
            length => self.take(usize::try_from(length).map_err(|_| "a negative length")?).map(Some),
        }
    }

    fn varint(&mut self) -> Read<i32> {
        i32::try_from(self.varlong()?).map_err(|_| "a number of more than 32 bits")
    }

    fn varlong(&mut self) -> Read<i64> {
        let mut zigzag = 0u64;
        for shift in (0..70).step_by(7) {
            let byte = self.take(1)?[0];
            zigzag |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok((zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed());
            }
        }
        Err("a number of more than 10 bytes")
    }
}

pub(crate) fn put_varint(out: &mut Vec<u8>, number: i32) {
    let mut zigzag = ((number << 1) ^ (number >> 31)).cast_unsigned();
    while zigzag >= 0x80 {
        out.push((zigzag & 0x7f) as u8 | 0x80);
        zigzag >>= 7;
    }
    out.push(zigzag as u8);
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => put_varint(out, -1),
        Some(bytes) => {
            put_varint(out, i32::try_from(bytes.len()).unwrap_or(i32::MAX));
            out.extend_from_slice(bytes);
        }
    }
}
