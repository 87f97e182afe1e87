//! The host of tests: topics in memory, of this thread. What there is to poll is what the test put in; then the plugin is
//! told to stop.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::http::{Request, Response};
use super::{Message, Outgoing, Partition, SeekTo};
use crate::{Error, Result};

thread_local! {
    static HOST: RefCell<Host> = RefCell::default();
}

/// What a test answers to requests.
pub(crate) type Server = Box<dyn FnMut(&Request) -> Result<Response>>;

/// See the module.
#[derive(Default)]
pub(crate) struct Host {
    pub(crate) input: VecDeque<Message>,
    pub(crate) sent: Vec<Outgoing>,
    /// What is written: sent, and behind it a commit, a flush, a position or a wait.
    pub(crate) written: Vec<Outgoing>,
    pub(crate) polled: BTreeMap<Partition, i64>,
    /// With the reasons.
    pub(crate) rejected: BTreeMap<(Partition, i64), String>,
    pub(crate) committed: BTreeMap<Partition, i64>,
    pub(crate) position: Option<Vec<u8>>,
    pub(crate) secrets: BTreeMap<String, Vec<u8>>,
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    pub(crate) counters: BTreeMap<String, u64>,
    pub(crate) gauges: BTreeMap<String, f64>,
    /// All values, in their order.
    pub(crate) histograms: BTreeMap<String, Vec<f64>>,
    pub(crate) server: Option<Server>,
    /// So many waits, and the plugin is told to stop.
    pub(crate) sleeps_left: u32,
}

/// Runs `work` with that host, and returns what has become of it.
pub(crate) fn with<T>(host: Host, work: impl FnOnce() -> T) -> (T, Host) {
    HOST.set(host);
    let done = work();
    (done, HOST.take())
}

fn host<T>(call: impl FnOnce(&mut Host) -> Result<T>) -> Result<T> {
    HOST.with_borrow_mut(call)
}

impl Host {
    fn write(&mut self) {
        self.written.append(&mut self.sent);
    }
}

/// What the test has put in from other topics is not polled.
pub(crate) fn subscribe(topics: &[&str]) -> Result<()> {
    host(|host| {
        host.input.retain(|message| topics.contains(&message.topic.as_str()));
        Ok(())
    })
}

pub(crate) fn poll(max_records: u32, _timeout: Duration) -> Result<Vec<Message>> {
    host(|host| {
        if host.input.is_empty() {
            return Err(Error::Stopping);
        }
        let count = host.input.len().min(max_records as usize);
        let polled: Vec<Message> = host.input.drain(..count).collect();
        for Message { topic, partition, offset, .. } in &polled {
            let partition = Partition { topic: topic.clone(), partition: *partition };
            host.polled.insert(partition, offset + 1);
        }
        Ok(polled)
    })
}

pub(crate) fn commit() -> Result<bool> {
    host(|host| {
        host.write();
        host.committed.extend(host.polled.clone());
        Ok(true)
    })
}

pub(crate) fn commit_offsets(offsets: &[(Partition, i64)]) -> Result<bool> {
    host(|host| {
        host.write();
        host.committed.extend(offsets.iter().cloned());
        Ok(true)
    })
}

pub(crate) fn reject(partition: &Partition, offset: i64, reason: &str) -> Result<()> {
    host(|host| {
        let committed = host.committed.get(partition).copied().unwrap_or(i64::MIN);
        if !host.polled.get(partition).is_some_and(|next| (committed..*next).contains(&offset)) {
            return Err(Error::stop(format!("record {offset} was not polled, or is committed")));
        }
        host.rejected.insert((partition.clone(), offset), reason.to_owned());
        Ok(())
    })
}

pub(crate) fn send(message: Outgoing) -> Result<()> {
    host(|host| {
        host.sent.push(message);
        Ok(())
    })
}

pub(crate) fn flush() -> Result<()> {
    host(|host| {
        host.write();
        Ok(())
    })
}

/// In memory there is no place to go to but on: a test that needs one runs the plugin on a node.
pub(crate) fn seek(_: &Partition, _: SeekTo) -> Result<bool> {
    Ok(false)
}

pub(crate) fn pause(_: &Partition) -> Result<bool> {
    Ok(false)
}

pub(crate) fn resume(_: &Partition) -> Result<bool> {
    Ok(false)
}

pub(crate) fn assignment() -> Vec<Partition> {
    HOST.with_borrow(|host| host.polled.keys().cloned().collect())
}

pub(crate) fn sleep(_: Duration) -> Result<()> {
    host(|host| {
        host.write();
        host.sleeps_left = host.sleeps_left.checked_sub(1).ok_or(Error::Stopping)?;
        Ok(())
    })
}

pub(crate) fn load_position() -> Result<Option<Vec<u8>>> {
    host(|host| Ok(host.position.clone()))
}

pub(crate) fn save_position(position: &[u8]) -> Result<()> {
    host(|host| {
        host.write();
        host.position = Some(position.to_vec());
        Ok(())
    })
}

pub(crate) fn secret(name: &str) -> Result<Vec<u8>> {
    let missing = || Error::stop(format!("the test grants no secret {name:?}"));
    host(|host| host.secrets.get(name).cloned().ok_or_else(missing))
}

pub(crate) fn secret_reference(name: &str) -> Result<String> {
    secret(name).map(|_| format!("[secret {name}]"))
}

/// While it answers, the server is not the host's: it may call the host itself.
pub(crate) fn http(request: &Request) -> Result<Response> {
    let server = HOST.with_borrow_mut(|host| host.server.take());
    let Some(mut server) = server else {
        return Err(Error::stop(format!("the test answers no request to {:?}", request.url())));
    };
    let answer = server(request);
    HOST.with_borrow_mut(|host| host.server = Some(server));
    answer
}

pub(crate) fn read_file(name: &str, offset: u64, max: u32) -> Result<Vec<u8>> {
    let missing = || Error::stop(format!("the test grants no file {name:?}"));
    host(|host| {
        let file = host.files.get(name).ok_or_else(missing)?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(file.len());
        let end = start.saturating_add(max as usize).min(file.len());
        Ok(file[start..end].to_vec())
    })
}

pub(crate) fn counter(name: &str, by: u64) -> Result<()> {
    host(|host| {
        *host.counters.entry(name.to_owned()).or_default() += by;
        Ok(())
    })
}

pub(crate) fn gauge(name: &str, value: f64) -> Result<()> {
    host(|host| {
        host.gauges.insert(name.to_owned(), value);
        Ok(())
    })
}

pub(crate) fn histogram(name: &str, value: f64) -> Result<()> {
    host(|host| {
        host.histograms.entry(name.to_owned()).or_default().push(value);
        Ok(())
    })
}
