module wit_component

go 1.25

require go.bytecodealliance.org/pkg v0.2.3

// What the bindings need, as it comes with their generator: there is nothing to download.
replace go.bytecodealliance.org/pkg => ./pkg
