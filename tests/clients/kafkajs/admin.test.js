'use strict'

const assert = require('node:assert')
const { test } = require('node:test')
const { ConfigResourceTypes } = require('kafkajs')
const { fresh, makeTopic, read, send, startConsumer, withAdmin } = require('./broker')

const options = { timeout: 60_000 }

test('topics are created, listed, extended and deleted', options, async () => {
  const topic = fresh()
  await withAdmin(async admin => {
    assert.strictEqual(await admin.createTopics({ waitForLeaders: true, topics: [{ topic, numPartitions: 2 }] }), true)
    assert.strictEqual(await admin.createTopics({ topics: [{ topic }] }), false)
    assert.ok((await admin.listTopics()).includes(topic))
    await admin.createPartitions({ topicPartitions: [{ topic, count: 4 }] })
    const { topics } = await admin.fetchTopicMetadata({ topics: [topic] })
    assert.strictEqual(topics[0].partitions.length, 4)
    await admin.deleteTopics({ topics: [topic] })
    assert.ok(!(await admin.listTopics()).includes(topic))
  })
})

test('what can not be a topic is refused', options, async () => {
  await withAdmin(async admin => {
    await assert.rejects(admin.createTopics({ topics: [{ topic: 'bad name' }] }))
    await assert.rejects(admin.createTopics({ topics: [{ topic: fresh(), replicationFactor: 300 }] }))
    await assert.rejects(admin.deleteTopics({ topics: [fresh()], timeout: 1000 }))
  })
})

test('offsets, also by time', options, async () => {
  const topic = await makeTopic()
  await send(topic, [1000, 2000, 3000].map(timestamp => ({ value: 'x', timestamp: `${timestamp}` })))
  await withAdmin(async admin => {
    const [offsets] = await admin.fetchTopicOffsets(topic)
    assert.deepStrictEqual([offsets.low, offsets.high], ['0', '3'])
    const [at] = await admin.fetchTopicOffsetsByTimestamp(topic, 1500)
    assert.strictEqual(at.offset, '1')
  })
})

test('settings of a topic', options, async () => {
  const topic = await makeTopic(1, [{ name: 'retention.ms', value: '3600000' }])
  const { resources } = await withAdmin(admin =>
    admin.describeConfigs({ includeSynonyms: false, resources: [{ type: ConfigResourceTypes.TOPIC, name: topic }] })
  )
  const retention = resources[0].configEntries.find(entry => entry.configName === 'retention.ms')
  assert.deepStrictEqual([retention.configValue, retention.isDefault], ['3600000', false])
})

test('the cluster describes itself', options, async () => {
  const cluster = await withAdmin(admin => admin.describeCluster())
  assert.ok(cluster.clusterId)
  assert.ok(cluster.brokers.some(broker => broker.nodeId === cluster.controller))
})

test('groups are listed, described, moved and deleted', options, async () => {
  const topic = await makeTopic()
  const groupId = fresh('group')
  await send(topic, ['a', 'b', 'c'].map(value => ({ value })))
  const reader = await startConsumer([topic], { groupId })
  await reader.take(3)
  await withAdmin(async admin => {
    assert.ok((await admin.listGroups()).groups.some(group => group.groupId === groupId))
    const { groups } = await admin.describeGroups([groupId])
    assert.deepStrictEqual([groups[0].state, groups[0].members.length], ['Stable', 1])
    await assert.rejects(admin.deleteGroups([groupId]))
  })
  await reader.stop()
  await withAdmin(admin => admin.setOffsets({ groupId, topic, partitions: [{ partition: 0, offset: '1' }] }))
  assert.deepStrictEqual(await read(topic, 2, { groupId }), ['b', 'c'])
  await withAdmin(async admin => {
    await admin.deleteGroups([groupId])
    assert.ok(!(await admin.listGroups()).groups.some(group => group.groupId === groupId))
  })
})
