// The server of the differential test that Go's HTTP/2 reads for: http2_server LOG ADDRESS CERTIFICATE KEY.
package main

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"
)

func sum(data []byte) string {
	made := sha256.Sum256(data)
	return hex.EncodeToString(made[:])
}

// As Python writes it: tests/differential/sighting.py names a line by its bytes.
func line(fields ...any) []byte {
	parts := make([]string, len(fields))
	for i, field := range fields {
		var text strings.Builder
		encoder := json.NewEncoder(&text)
		encoder.SetEscapeHTML(false)
		if encoder.Encode(field) != nil {
			log.Fatal("a field that is no JSON")
		}
		parts[i] = strings.TrimSuffix(text.String(), "\n")
	}
	return []byte("[" + strings.Join(parts, ", ") + "]\n")
}

func main() {
	sightings, err := os.OpenFile(os.Args[1], os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		log.Fatal(err)
	}
	serve := func(writer http.ResponseWriter, request *http.Request) {
		body, err := io.ReadAll(request.Body)
		if err != nil {
			return // broken off: it was no whole request
		}
		seen := line(request.Method, request.RequestURI, request.Host, len(body), sum(body))
		if _, err := sightings.Write(seen); err != nil {
			log.Fatal(err)
		}
		name := sum(seen)[:16]
		writer.Header().Set("Seen", name)
		answer := "HTTP/1.1 200 OK\r\nSeen: 0000000000000000\r\n\r\n" + name
		form := ""
		if len(request.RequestURI) > 3 {
			form = request.RequestURI[3:4]
		}
		switch {
		case form == "n":
			writer.WriteHeader(http.StatusNoContent)
		case form == "c":
			io.WriteString(writer, answer)
			writer.(http.Flusher).Flush()
		default:
			writer.Header().Set("Content-Length", strconv.Itoa(len(answer)))
			io.WriteString(writer, answer)
		}
	}
	server := &http.Server{
		Addr:           os.Args[2] + ":443",
		Handler:        http.HandlerFunc(serve),
		TLSConfig:      &tls.Config{NextProtos: []string{"h2"}},
		MaxHeaderBytes: 1 << 18,
		ErrorLog:       log.New(io.Discard, "", 0),
	}
	log.Fatal(server.ListenAndServeTLS(os.Args[3], os.Args[4]))
}
