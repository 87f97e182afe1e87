'use strict'

const assert = require('node:assert')
const { test } = require('node:test')
const { fresh, kafka, makeTopic, read, send, startConsumer, withAdmin } = require('./broker')

const options = { timeout: 60_000 }
const numbers = (from, to) => Array.from({ length: to - from }, (_, i) => `${from + i}`)

test('from any offset', options, async () => {
  const topic = await makeTopic()
  await send(topic, numbers(0, 100).map(value => ({ value })))
  for (const offset of [0, 1, 50, 99]) {
    // Joining takes longer than asking to seek: nothing is read before.
    const seek = { topic, partition: 0, offset: `${offset}` }
    assert.deepStrictEqual(await read(topic, 100 - offset, { seek }), numbers(offset, 100))
  }
})

test('a group goes on where it committed', options, async () => {
  const topic = await makeTopic()
  const groupId = fresh('group')
  await send(topic, numbers(0, 10).map(value => ({ value })))
  assert.deepStrictEqual(await read(topic, 10, { groupId }), numbers(0, 10))
  await send(topic, numbers(10, 15).map(value => ({ value })))
  assert.deepStrictEqual(await read(topic, 5, { groupId }), numbers(10, 15))
})

test('commits carry offsets and metadata', options, async () => {
  const topic = await makeTopic()
  // The member goes on from what it commits, so that has to exist.
  await send(topic, numbers(0, 10).map(value => ({ value })))
  const reader = await startConsumer([topic], { autoCommit: false })
  await reader.take(10)
  await reader.consumer.commitOffsets([{ topic, partition: 0, offset: '7', metadata: 'where I was' }])
  await reader.stop()
  const [found] = await withAdmin(admin => admin.fetchOffsets({ groupId: reader.groupId, topics: [topic] }))
  assert.deepStrictEqual(found.partitions, [{ partition: 0, offset: '7', metadata: 'where I was' }])
})

test('members share the partitions and take over from each other', options, async () => {
  const topic = await makeTopic(4)
  const groupId = fresh('group')
  const settings = { groupId, sessionTimeout: 10_000, heartbeatInterval: 500, rebalanceTimeout: 10_000 }
  const assignments = new Map()
  let changed
  const follow = (name, consumer) =>
    consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
      assignments.set(name, payload.memberAssignment[topic] ?? [])
      changed?.()
    })
  const settled = async sizes => {
    const now = () => [...assignments.values()].map(partitions => partitions.length).sort().join()
    while (now() !== sizes) await new Promise(resolve => (changed = resolve))
    const all = [...assignments.values()].flat().sort()
    assert.deepStrictEqual(all, [0, 1, 2, 3])
  }
  const start = async name => {
    const consumer = kafka.consumer({ ...settings, maxWaitTimeInMs: 200 })
    follow(name, consumer)
    await consumer.connect()
    await consumer.subscribe({ topics: [topic], fromBeginning: true })
    await consumer.run({ eachMessage: async () => {} })
    return consumer
  }
  const one = await start('one')
  await settled('4')
  const two = await start('two')
  await settled('2,2')
  await two.disconnect()
  assignments.delete('two')
  await settled('4')
  await one.disconnect()
})

test('pause and resume', options, async () => {
  const topic = await makeTopic()
  const reader = await startConsumer([topic])
  await reader.joined
  reader.consumer.pause([{ topic }])
  await send(topic, numbers(0, 3).map(value => ({ value })))
  assert.deepStrictEqual(reader.consumer.paused(), [{ topic, partitions: [0] }])
  reader.consumer.resume([{ topic }])
  assert.strictEqual((await reader.take(3)).length, 3)
  await reader.stop()
})
