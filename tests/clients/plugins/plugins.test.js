'use strict'

// kafkajs at an ingest and a view.

const assert = require('node:assert')
const { test } = require('node:test')
const { fresh, kafka, send, startConsumer, withAdmin } = require(`${process.env.KAFKAJS}/broker`)

const { CHECKED, MASKED } = process.env
const options = { timeout: 60_000 }
const good = JSON.stringify({ amount: 1, card: '4711' })
const dropped = JSON.stringify({ amount: -1, card: '4711' })
const messages = values => values.map(value => ({ value, partition: 1 }))

test('a batch with a bad record is refused', options, async () => {
  const producer = { retry: { retries: 0 } }
  await assert.rejects(send(CHECKED, messages([good, 'no json']), { producer }), error => {
    assert.strictEqual(error.type ?? error.cause?.type, 'INVALID_RECORD')
    return true
  })
})

test('a group reads a view, commits and goes on', options, async () => {
  const [{ baseOffset }] = await send(CHECKED, messages([good, dropped, good]))
  const first = Number(baseOffset)
  const groupId = fresh('group')
  const reader = await startConsumer([MASKED], { groupId })
  const last = () => reader.records.filter(record => record.partition === 1 && Number(record.offset) >= first)
  while (last().length < 2) await reader.take(reader.records.length + 1)
  await reader.stop()
  assert.deepStrictEqual(last().map(record => Number(record.offset)), [first, first + 2])
  assert.ok(reader.records.every(record => record.value.toString() === '{"amount":1,"card":"***"}'))
  const [{ partitions }] = await withAdmin(admin => admin.fetchOffsets({ groupId, topics: [MASKED] }))
  assert.strictEqual(partitions.find(({ partition }) => partition === 1).offset, `${first + 3}`)
  const ends = await withAdmin(admin => admin.fetchTopicOffsets(MASKED))
  assert.strictEqual(ends.find(({ partition }) => partition === 1).high, `${first + 3}`)
  await send(CHECKED, messages([good]))
  const next = await startConsumer([MASKED], { groupId })
  const here = () => next.records.find(record => record.partition === 1)
  while (!here()) await next.take(next.records.length + 1)
  await next.stop()
  assert.strictEqual(here().offset, `${first + 3}`)
})

test("a view can't be written to", options, async () => {
  const producer = { retry: { retries: 0 } }
  await assert.rejects(send(MASKED, messages([good]), { producer }), error => {
    assert.strictEqual(error.type ?? error.cause?.type, 'INVALID_TOPIC_EXCEPTION')
    return true
  })
})
