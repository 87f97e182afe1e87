// Package export_millstream_plugin_transform is my-plugin: it keeps the records whose value contains a text, and masks
// another text in them. The bindings want the package to be called so.
package export_millstream_plugin_transform

import (
	"bytes"
	"encoding/json"
	"strings"
	"unicode/utf8"

	witTypes "go.bytecodealliance.org/pkg/wit/types"

	log "wit_component/millstream_plugin_log"
	. "wit_component/millstream_plugin_transform"
)

// Config is the pipeline's `config:`.
type Config struct {
	Contains string  `json:"contains"`
	Mask     *string `json:"mask"`
}

var contains, mask []byte

// Init gets the pipeline's `config:` as JSON. An Err refuses it, and is shown to whoever deploys the plugin.
func Init(text string) witTypes.Result[witTypes.Unit, string] {
	var config Config
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&config); err != nil {
		return witTypes.Err[witTypes.Unit, string](err.Error())
	}
	if config.Contains == "" || config.Mask != nil && *config.Mask == "" {
		return witTypes.Err[witTypes.Unit, string]("`contains` and `mask` must be texts that are not empty")
	}
	contains = []byte(config.Contains)
	if config.Mask != nil {
		mask = []byte(*config.Mask)
	}
	log.Log(log.LevelInfo, "keeps what contains "+config.Contains)
	return witTypes.Ok[witTypes.Unit, string](witTypes.Unit{})
}

// Transform gets one batch. A record without an output is dropped.
func Transform(batch BatchInfo, messages []Message) witTypes.Result[BatchOutput, BatchError] {
	var out BatchOutput
	for i, message := range messages {
		index := uint32(i)
		if message.Value.IsNone() {
			out.Rejected = append(out.Rejected, RejectedRecord{Index: index, Reason: "the value is null"})
			continue
		}
		value := message.Value.Some()
		if !utf8.Valid(value) {
			out.Rejected = append(out.Rejected, RejectedRecord{Index: index, Reason: "the value is not UTF-8"})
			continue
		}
		if !bytes.Contains(value, contains) {
			continue
		}
		// Without a body the record goes on as it is.
		output := Output{
			Index:     index,
			Topic:     witTypes.None[string](),
			Partition: witTypes.None[uint32](),
			Timestamp: witTypes.None[int64](),
			Body:      witTypes.None[MessageBody](),
		}
		if mask != nil && bytes.Contains(value, mask) {
			masked := bytes.ReplaceAll(value, mask, []byte("***"))
			body := MessageBody{Key: message.Key, Value: witTypes.Some[[]uint8](masked), Headers: message.Headers}
			output.Body = witTypes.Some[MessageBody](body)
		}
		out.Outputs = append(out.Outputs, output)
	}
	return witTypes.Ok[BatchOutput, BatchError](out)
}
