// net/http with its default client. The contract is in tests/support/clients.py.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
)

func ask(method, url string) (any, string) {
	var body io.Reader
	if method == "POST" {
		file, err := os.Open(os.Getenv("BODY"))
		if err != nil {
			return nil, err.Error()
		}
		body = file
	}
	request, err := http.NewRequest(method, url, body)
	if err != nil {
		return nil, err.Error()
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err.Error()
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err.Error()
	}
	return response.StatusCode, string(text)
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		answer := map[string]any{"step": words[0]}
		for _, url := range words[2:] {
			answer["status"], answer["text"] = ask(words[1], url)
		}
		line, _ := json.Marshal(answer)
		fmt.Println(string(line))
	}
}
