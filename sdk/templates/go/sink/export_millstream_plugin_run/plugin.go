// Package export_millstream_plugin_run is my-plugin: it polls records, writes a summary of each poll, and commits. The
// bindings want the package to be called so.
package export_millstream_plugin_run

import (
	"encoding/json"
	"strings"

	witTypes "go.bytecodealliance.org/pkg/wit/types"

	consumer "wit_component/millstream_plugin_consumer"
	metrics "wit_component/millstream_plugin_metrics"
	producer "wit_component/millstream_plugin_producer"
	. "wit_component/millstream_plugin_run"
)

const pollMs = 1000

// Config is the pipeline's `config:`.
type Config struct {
	AtMost uint32 `json:"at_most"`
}

// Summary is what is written of a poll.
type Summary struct {
	Records int `json:"records"`
	Bytes   int `json:"bytes"`
	Longest int `json:"longest"`
}

var config Config

// Init gets the pipeline's `config:` as JSON. An Err refuses it, and is shown to whoever deploys the plugin.
func Init(text string) witTypes.Result[witTypes.Unit, string] {
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&config); err != nil {
		return witTypes.Err[witTypes.Unit, string](err.Error())
	}
	if config.AtMost == 0 {
		return witTypes.Err[witTypes.Unit, string]("`at_most` must be a number, 1 or more")
	}
	return witTypes.Ok[witTypes.Unit, string](witTypes.Unit{})
}

// Run does the work. Ok means that the plugin was told to stop, and has stopped.
func Run() witTypes.Result[witTypes.Unit, RunError] {
	stopped := witTypes.Ok[witTypes.Unit, RunError](witTypes.Unit{})
	failed := func(err RunError) witTypes.Result[witTypes.Unit, RunError] {
		return witTypes.Err[witTypes.Unit, RunError](err)
	}
	for {
		polled := consumer.Poll(config.AtMost, pollMs)
		if polled.IsErr() {
			if err := polled.Err(); err.Tag() == consumer.ErrorUnavailable {
				return failed(MakeRunErrorRetry(err.Unavailable()))
			}
			return stopped
		}
		messages := polled.Ok()
		if len(messages) == 0 {
			continue
		}
		if counted := metrics.Counter("records", uint64(len(messages))); counted.IsErr() {
			err := counted.Err()
			return failed(MakeRunErrorStop(err.Invalid()))
		}
		if sent := send(summaryOf(messages)); sent.IsErr() {
			switch err := sent.Err(); err.Tag() {
			case producer.ErrorStopping:
				return stopped
			case producer.ErrorUnavailable:
				return failed(MakeRunErrorRetry(err.Unavailable()))
			case producer.ErrorInvalid:
				return failed(MakeRunErrorStop(err.Invalid()))
			default:
				return failed(MakeRunErrorStop(err.NotGranted()))
			}
		}
		// Writes the summary, and then the offsets of what was polled. Not owned means that the group has given the
		// partitions to another member, which gets these records again.
		if committed := consumer.Commit(); committed.IsErr() {
			if err := committed.Err(); err.Tag() == consumer.ErrorUnavailable {
				return failed(MakeRunErrorRetry(err.Unavailable()))
			}
		}
	}
}

func summaryOf(messages []consumer.Message) Summary {
	summary := Summary{Records: len(messages)}
	for _, message := range messages {
		if message.Value.IsSome() {
			length := len(message.Value.Some())
			summary.Bytes += length
			summary.Longest = max(summary.Longest, length)
		}
	}
	return summary
}

func send(summary Summary) witTypes.Result[witTypes.Unit, producer.Error] {
	value, err := json.Marshal(summary)
	if err != nil {
		return witTypes.Err[witTypes.Unit, producer.Error](producer.MakeErrorInvalid(err.Error()))
	}
	return producer.Send([]producer.Message{{
		Topic:     witTypes.None[string](),
		Partition: witTypes.None[uint32](),
		Timestamp: witTypes.None[int64](),
		Key:       witTypes.None[[]uint8](),
		Value:     witTypes.Some[[]uint8](value),
	}})
}
