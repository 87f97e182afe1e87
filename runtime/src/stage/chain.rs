//! A stage's plugins, one behind the other: the outputs of each are the input of the next.

use std::sync::Arc;

use millstream_record::varint::{put_varint, put_varlong, varint_bytes, varlong_bytes};

use super::rejections::Rejection;
use super::spec::StagePlugin;
use super::status::StageShared;
use super::usage::{CallUsage, InstanceUsage};
use crate::batch::{InputBatch, InputRecord, Lineage, Span};
use crate::clock::SharedClock;
use crate::outputs::{OutputRecord, Transformed};
use crate::plugin::{Instance, InstanceConfig, Plugin, PluginError, StartError};

/// The live instances of one task.
pub(crate) struct Chain {
    links: Vec<Link>,
    topics: Vec<Arc<str>>,
    clock: SharedClock,
    rejected: Vec<Rejection>,
    /// The input of the last plugin that was called, unless it is the stage's own.
    derived: Option<InputBatch>,
    /// The last plugin that was called.
    last: usize,
}

struct Link {
    name: String,
    instance: Instance,
    usage: InstanceUsage,
    out: Transformed,
    plugin: Arc<Plugin>,
    config: InstanceConfig,
}

/// One record that leaves the chain.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ChainRecord<'a> {
    pub(crate) origin: u32,
    pub(crate) topic: u16,
    pub(crate) partition: Option<i32>,
    pub(crate) timestamp: i64,
    pub(crate) body: &'a [u8],
    /// False if the body is that of the origin, untouched.
    pub(crate) changed: bool,
}

/// What became of one batch.
pub(crate) struct ChainOutput<'a> {
    input: &'a InputBatch,
    last: Option<&'a Transformed>,
    /// Whether the last plugin's input was made by another plugin.
    derived: bool,
    /// In the order of the plugins; a record can be among them several times, and have outputs beside.
    pub(crate) rejected: &'a [Rejection],
}

impl Chain {
    /// An error names the plugin by its index.
    pub(super) async fn start(
        shared: &StageShared,
        plugins: &[StagePlugin],
    ) -> Result<Self, (usize, StartError)> {
        let clock = shared.clock();
        let mut links = Vec::with_capacity(plugins.len());
        for (index, link) in plugins.iter().enumerate() {
            let config = shared.instance_config(index, link);
            let (name, plugin) = (link.name.clone(), Arc::clone(&link.plugin));
            let (began, cpu_began) = (clock.monotonic(), clock.thread_cpu());
            let started = Instance::start(&plugin, config.clone()).await;
            let account = shared.cpu_account(link);
            account.charge(began, clock.thread_cpu().saturating_sub(cpu_began));
            let instance = started.map_err(|error| (index, error))?;
            let usage = InstanceUsage::new(shared.usage(index), account, instance.memory_bytes());
            links.push(Link { name, instance, usage, out: Transformed::default(), plugin, config });
        }
        let topics = shared.spec.to.clone();
        let clock = Arc::clone(clock);
        Ok(Self { links, topics, clock, rejected: Vec::new(), derived: None, last: 0 })
    }

    /// Puts another instance in the place of one that crashed. Of the others each keeps its state.
    pub(crate) async fn restart(&mut self, index: usize) -> Result<(), StartError> {
        let link = &mut self.links[index];
        let (began, cpu_began) = (self.clock.monotonic(), self.clock.thread_cpu());
        let started = Instance::start(&link.plugin, link.config.clone()).await;
        link.usage.charge(began, self.clock.thread_cpu().saturating_sub(cpu_began));
        link.instance = started?;
        Ok(())
    }

    /// Whether `pay` would wait.
    pub(crate) fn is_in_debt(&self) -> bool {
        self.links.iter().any(|link| link.usage.is_in_debt(&self.clock))
    }

    /// Waits until each plugin's share of the processor allows another batch. This may be dropped at any time.
    pub(crate) async fn pay(&self) {
        for link in &self.links {
            link.usage.pay(&self.clock).await;
        }
    }

    pub(crate) fn last_name(&self) -> Option<String> {
        self.links.last().map(|link| link.name.clone())
    }

    pub(crate) fn plugin_name(&self, index: usize) -> &str {
        &self.links[index].name
    }

    /// Maps one batch through all plugins; `output` has the result. An error names the plugin by its index.
    pub(crate) async fn transform(&mut self, input: &InputBatch) -> Result<(), (usize, PluginError)> {
        self.rejected.clear();
        self.derived = None;
        let count = self.links.len();
        for (index, link) in self.links.iter_mut().enumerate() {
            if index > 0 {
                // A stage that is told to stop need not wait for the whole chain.
                tokio::task::yield_now().await;
            }
            let current = self.derived.as_ref().unwrap_or(input);
            let (before, cpu_before) = (self.clock.monotonic(), self.clock.thread_cpu());
            let result = link.instance.transform(current, &self.topics, &mut link.out).await;
            let time = self.clock.monotonic().saturating_sub(before);
            // The thread does nothing else, also while the guest waits.
            let cpu = self.clock.thread_cpu().saturating_sub(cpu_before);
            let records = result.as_ref().ok().map(|()| (current.len(), link.out.outputs.len()));
            link.usage.count(&CallUsage { time, cpu, records }, link.instance.memory_bytes());
            link.usage.charge(before, cpu);
            result.map_err(|error| (index, error))?;
            for rejected in &link.out.rejected {
                let origin = lineage(current, rejected.index).origin;
                self.rejected.push(Rejection {
                    origin,
                    plugin: Some(index),
                    reason: rejected.reason.as_str().into(),
                });
            }
            self.last = index;
            // A plugin is never called without records.
            if index + 1 == count || link.out.outputs.is_empty() {
                break;
            }
            self.derived = Some(next_input(current, &link.out));
        }
        Ok(())
    }

    /// What became of the batch that was transformed last.
    pub(crate) fn output<'a>(&'a self, input: &'a InputBatch) -> ChainOutput<'a> {
        ChainOutput {
            input: self.derived.as_ref().unwrap_or(input),
            last: self.links.get(self.last).map(|link| &link.out),
            derived: self.derived.is_some(),
            rejected: &self.rejected,
        }
    }
}

impl ChainOutput<'_> {
    /// Each record that leaves the chain, in order.
    pub(crate) fn for_each<E>(
        &self,
        mut take: impl FnMut(ChainRecord<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(last) = self.last else {
            // No plugin: every record as it came.
            for index in 0..self.input.records.len() {
                let index = u32::try_from(index).expect("a batch's records are counted by an i32");
                take(self.record(
                    &OutputRecord { index, topic: None, partition: None, timestamp: None, body: None },
                    &[],
                ))?;
            }
            return Ok(());
        };
        last.outputs.iter().try_for_each(|output| take(self.record(output, &last.payload)))
    }

    fn record<'b>(&'b self, output: &OutputRecord, payload: &'b [u8]) -> ChainRecord<'b> {
        let input = &self.input.records[output.index as usize];
        let lineage = lineage(self.input, output.index);
        ChainRecord {
            origin: lineage.origin,
            topic: output.topic.or(lineage.topic).unwrap_or(0),
            partition: output.partition.or(lineage.partition),
            timestamp: output.timestamp.unwrap_or(input.timestamp),
            body: output.body.map_or_else(|| self.input.body(input), |span| span.of(payload)),
            changed: self.derived || output.body.is_some(),
        }
    }
}

fn lineage(input: &InputBatch, index: u32) -> Lineage {
    match input.lineage.get(index as usize) {
        Some(lineage) => *lineage,
        None => Lineage { origin: index, topic: None, partition: None },
    }
}

/// The outputs of one plugin as the input of the next: a records section again.
fn next_input(input: &InputBatch, out: &Transformed) -> InputBatch {
    let mut section = Vec::with_capacity(out.payload.len() + input.section.len() / 2);
    let mut records = Vec::with_capacity(out.outputs.len());
    let mut lineages = Vec::with_capacity(out.outputs.len());
    for output in &out.outputs {
        let record = &input.records[output.index as usize];
        let body = output.body.map_or_else(|| input.body(record), |span| span.of(&out.payload));
        let timestamp = output.timestamp.unwrap_or(record.timestamp);
        put_record(&mut section, timestamp.wrapping_sub(input.base_timestamp), record.offset_delta, body);
        let body = Span::new(section.len() - body.len(), section.len());
        records.push(InputRecord { timestamp, offset_delta: record.offset_delta, body });
        let before = lineage(input, output.index);
        lineages.push(Lineage {
            origin: before.origin,
            topic: output.topic.or(before.topic),
            partition: output.partition.or(before.partition),
        });
    }
    InputBatch {
        position: input.position,
        topic: Arc::clone(&input.topic),
        partition: input.partition,
        base_offset: input.base_offset,
        base_timestamp: input.base_timestamp,
        // A plugin may have set timestamps: from here on each record has its own.
        append_time: None,
        section: section.into(),
        records,
        lineage: lineages,
    }
}

fn put_record(section: &mut Vec<u8>, timestamp_delta: i64, offset_delta: i32, body: &[u8]) {
    let length = 1 + varlong_bytes(timestamp_delta) + varint_bytes(offset_delta) + body.len();
    // A body has passed the limit on a plugin's outputs, or fitted a batch before.
    put_varint(section, i32::try_from(length).expect("a record's length fits an i32"));
    section.push(0);
    put_varlong(section, timestamp_delta);
    put_varint(section, offset_delta);
    section.extend_from_slice(body);
}
