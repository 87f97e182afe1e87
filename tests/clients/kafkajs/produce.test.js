'use strict'

const assert = require('node:assert')
const { randomBytes } = require('node:crypto')
const { test } = require('node:test')
const { CompressionTypes, fresh, kafka, makeTopic, read, send, startConsumer } = require('./broker')

const options = { timeout: 60_000 }
const values = count => Array.from({ length: count }, (_, i) => `a value that repeats and so compresses, ${i}`)

for (const acks of [0, 1, -1]) {
  test(`acks ${acks}`, options, async () => {
    const topic = await makeTopic()
    await send(topic, values(100).map(value => ({ value })), { acks })
    assert.deepStrictEqual(await read(topic, 100), values(100))
  })
}

for (const [name, compression] of Object.entries(CompressionTypes)) {
  test(`codec ${name}`, options, async () => {
    const topic = await makeTopic()
    await send(topic, values(500).map(value => ({ value })), { compression })
    assert.deepStrictEqual(await read(topic, 500), values(500))
  })
}

test('the idempotent producer', options, async () => {
  const topic = await makeTopic()
  const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1 })
  await producer.connect()
  for (let i = 0; i < 20; i++) await producer.send({ topic, messages: [{ value: `${i}` }] })
  await producer.disconnect()
  assert.deepStrictEqual(await read(topic, 20), Array.from({ length: 20 }, (_, i) => `${i}`))
})

test('many sends at once', options, async () => {
  const topic = await makeTopic(3)
  const producer = kafka.producer()
  await producer.connect()
  await Promise.all(values(200).map(value => producer.send({ topic, messages: [{ value }] })))
  await producer.disconnect()
  assert.deepStrictEqual((await read(topic, 200)).sort(), values(200).sort())
})

test('a batch over several topics', options, async () => {
  const topics = [await makeTopic(), await makeTopic()]
  const producer = kafka.producer()
  await producer.connect()
  await producer.sendBatch({ topicMessages: topics.map(topic => ({ topic, messages: [{ value: topic }] })) })
  await producer.disconnect()
  for (const topic of topics) assert.deepStrictEqual(await read(topic, 1), [topic])
})

test('keys, headers, tombstones and timestamps', options, async () => {
  const topic = await makeTopic()
  const bytes = randomBytes(256)
  await send(topic, [
    { key: 'k', value: 'v', headers: { one: 'a', two: ['b', 'c'], bytes }, timestamp: '1700000000123' },
    { key: 'gone', value: null },
    { key: null, value: '' },
    { key: bytes, value: bytes },
  ])
  const reader = await startConsumer([topic])
  const [first, tombstone, empty, binary] = await reader.take(4)
  await reader.stop()
  assert.strictEqual(first.key.toString(), 'k')
  assert.strictEqual(first.timestamp, '1700000000123')
  assert.strictEqual(first.headers.one.toString(), 'a')
  assert.deepStrictEqual(first.headers.two.map(String), ['b', 'c'])
  assert.deepStrictEqual(first.headers.bytes, bytes)
  assert.strictEqual(tombstone.value, null)
  assert.deepStrictEqual([empty.key, empty.value.length], [null, 0])
  assert.deepStrictEqual([binary.key, binary.value], [bytes, bytes])
})

test('the answer says where the records are', options, async () => {
  const topic = await makeTopic(2)
  await send(topic, [{ value: 'a', partition: 1 }])
  const [answer] = await send(topic, [{ value: 'b', partition: 1 }])
  assert.deepStrictEqual([answer.partition, answer.errorCode, answer.baseOffset], [1, 0, '1'])
})

test('a topic is created on first use', options, async () => {
  const topic = fresh()
  await send(topic, [{ value: 'first' }])
  assert.deepStrictEqual(await read(topic, 1), ['first'])
})

test('too large a record is refused', options, async () => {
  const topic = await makeTopic()
  await assert.rejects(send(topic, [{ value: randomBytes(2_000_000) }]), /too large|larger than/i)
  await send(topic, [{ value: 'small' }])
  assert.deepStrictEqual(await read(topic, 1), ['small'])
})
