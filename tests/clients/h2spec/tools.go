//go:build tools

// Pins the module that prepare.sh builds.
package tools

import _ "github.com/summerwind/h2spec/cmd/h2spec"
