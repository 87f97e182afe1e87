// What the tests share: the broker's address, the codecs, names of their own, and patience.
'use strict'

const { randomBytes } = require('node:crypto')
const { once, EventEmitter } = require('node:events')
const { Kafka, CompressionTypes, CompressionCodecs, logLevel } = require('kafkajs')
const snappy = require('kafkajs-snappy')
const lz4 = require('lz4-napi')
const zstd = require('@bokuweb/zstd-wasm')

const run = randomBytes(4).toString('hex')
let names = 0

// kafkajs brings gzip itself; for the others it takes what one gives it.
CompressionCodecs[CompressionTypes.Snappy] = snappy
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: encoder => lz4.compressFrame(encoder.buffer),
  decompress: buffer => lz4.decompressFrame(buffer),
})
const zstdReady = zstd.init()
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async encoder => {
    await zstdReady
    return Buffer.from(zstd.compress(encoder.buffer))
  },
  decompress: async buffer => {
    await zstdReady
    return Buffer.from(zstd.decompress(buffer))
  },
})

const kafka = new Kafka({
  clientId: 'compat',
  brokers: (process.env.BOOTSTRAP || '127.0.0.1:9092').split(','),
  logLevel: logLevel.NOTHING,
})

// A name that no other test and no other run uses.
const fresh = (kind = 't') => `compat-kafkajs-${run}-${process.pid}-${kind}${names++}`

async function withAdmin(use) {
  const admin = kafka.admin()
  await admin.connect()
  try {
    return await use(admin)
  } finally {
    await admin.disconnect()
  }
}

async function makeTopic(numPartitions = 1, configEntries = []) {
  const topic = fresh()
  await withAdmin(admin => admin.createTopics({ waitForLeaders: true, topics: [{ topic, numPartitions, configEntries }] }))
  return topic
}

async function send(topic, messages, { producer: options, ...request } = {}) {
  const producer = kafka.producer(options)
  await producer.connect()
  try {
    return await producer.send({ topic, messages, ...request })
  } finally {
    await producer.disconnect()
  }
}

// A consumer that keeps what it gets. `take(n)` waits until there are n records, and returns them.
async function startConsumer(topics, { groupId = fresh('group'), fromBeginning = true, autoCommit = true, seek, ...options } = {}) {
  const consumer = kafka.consumer({ groupId, maxWaitTimeInMs: 200, ...options })
  const arrivals = new EventEmitter()
  const records = []
  await consumer.connect()
  await consumer.subscribe({ topics, fromBeginning })
  const joined = new Promise(resolve => consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => resolve(payload)))
  await consumer.run({
    autoCommit,
    eachMessage: async ({ topic, partition, message }) => {
      records.push({ topic, partition, ...message })
      arrivals.emit('record')
    },
  })
  if (seek) consumer.seek(seek)
  return {
    consumer,
    groupId,
    records,
    joined,
    async take(count) {
      while (records.length < count) await once(arrivals, 'record')
      return records
    },
    stop: () => consumer.disconnect(),
  }
}

// The values of the first `count` records of a topic.
async function read(topic, count, options) {
  const reader = await startConsumer([topic], options)
  try {
    return (await reader.take(count)).map(record => record.value?.toString())
  } finally {
    await reader.stop()
  }
}

module.exports = { CompressionTypes, fresh, kafka, makeTopic, read, send, startConsumer, withAdmin }
