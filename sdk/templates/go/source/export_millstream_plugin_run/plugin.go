// Package export_millstream_plugin_run is my-plugin: it sends numbered records, one every so often, and goes on where it
// was. The bindings want the package to be called so.
package export_millstream_plugin_run

import (
	"encoding/json"
	"strconv"
	"strings"

	witTypes "go.bytecodealliance.org/pkg/wit/types"

	positions "wit_component/millstream_plugin_positions"
	producer "wit_component/millstream_plugin_producer"
	. "wit_component/millstream_plugin_run"
	timers "wit_component/millstream_plugin_timers"
)

// Config is the pipeline's `config:`.
type Config struct {
	Text    *string `json:"text"`
	EveryMs *uint64 `json:"every_ms"`
	Last    *uint64 `json:"last"`
}

var config Config

// Init gets the pipeline's `config:` as JSON. An Err refuses it, and is shown to whoever deploys the plugin.
func Init(text string) witTypes.Result[witTypes.Unit, string] {
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&config); err != nil {
		return witTypes.Err[witTypes.Unit, string](err.Error())
	}
	if config.Text == nil || config.EveryMs == nil {
		return witTypes.Err[witTypes.Unit, string]("`text` and `every_ms` must be there")
	}
	return witTypes.Ok[witTypes.Unit, string](witTypes.Unit{})
}

// Run does the work. Ok means that it is done; when the plugin is told to stop, that it has stopped.
func Run() witTypes.Result[witTypes.Unit, RunError] {
	done := witTypes.Ok[witTypes.Unit, RunError](witTypes.Unit{})
	failed := func(err RunError) witTypes.Result[witTypes.Unit, RunError] {
		return witTypes.Err[witTypes.Unit, RunError](err)
	}
	loaded := positions.Load()
	if loaded.IsErr() {
		if err := loaded.Err(); err.Tag() == positions.ErrorUnavailable {
			return failed(MakeRunErrorRetry(err.Unavailable()))
		}
		return done
	}
	number := uint64(0)
	if position := loaded.Ok(); position.IsSome() {
		parsed, err := strconv.ParseUint(string(position.Some()), 10, 64)
		if err != nil {
			return failed(MakeRunErrorStop("the saved position is no number: " + err.Error()))
		}
		number = parsed
	}
	for config.Last == nil || number < *config.Last {
		number++
		digits := strconv.FormatUint(number, 10)
		if sent := send([]byte(*config.Text + " " + digits)); sent.IsErr() {
			switch err := sent.Err(); err.Tag() {
			case producer.ErrorStopping:
				return done
			case producer.ErrorUnavailable:
				return failed(MakeRunErrorRetry(err.Unavailable()))
			case producer.ErrorInvalid:
				return failed(MakeRunErrorStop(err.Invalid()))
			default:
				return failed(MakeRunErrorStop(err.NotGranted()))
			}
		}
		// In one commit with the record.
		if saved := positions.Save([]byte(digits)); saved.IsErr() {
			if err := saved.Err(); err.Tag() == positions.ErrorUnavailable {
				return failed(MakeRunErrorRetry(err.Unavailable()))
			}
			return done
		}
		if timers.Sleep(*config.EveryMs).IsErr() {
			return done
		}
	}
	return done
}

func send(value []byte) witTypes.Result[witTypes.Unit, producer.Error] {
	return producer.Send([]producer.Message{{
		Topic:     witTypes.None[string](),
		Partition: witTypes.None[uint32](),
		Timestamp: witTypes.None[int64](),
		Key:       witTypes.None[[]uint8](),
		Value:     witTypes.Some[[]uint8](value),
	}})
}
