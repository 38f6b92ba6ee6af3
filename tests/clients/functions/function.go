// A function as a developer writes it with Go's net/http: it does what it is asked. With PROPAGATE it passes on by hand the
// trace that came with the message, as a middleware would. It says where it listens: function PORT.
package main

import (
	"encoding/json"
	"net/http"
	"os"
	"strconv"
	"sync"
)

type task struct {
	Urls []string `json:"urls"`
	Meet bool     `json:"meet"`
}

// As many goroutines as it has size wait for each other.
type barrier struct {
	sync.Mutex
	size, waiting int
	open          chan struct{}
}

func (b *barrier) wait() {
	b.Lock()
	open := b.open
	if b.waiting++; b.waiting == b.size {
		close(open)
		b.waiting, b.open = 0, make(chan struct{})
	}
	b.Unlock()
	<-open
}

func get(url, parent string) int {
	request, err := http.NewRequest("GET", url, nil)
	if err != nil {
		return 0
	}
	if parent != "" && os.Getenv("PROPAGATE") != "" {
		request.Header.Set("traceparent", parent)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0
	}
	defer response.Body.Close()
	return response.StatusCode
}

func main() {
	size, err := strconv.Atoi(os.Getenv("TOGETHER"))
	if err != nil {
		size = 1
	}
	together := &barrier{size: size, open: make(chan struct{})}
	http.HandleFunc("/healthz", func(w http.ResponseWriter, r *http.Request) { w.Write([]byte("well")) })
	http.HandleFunc("/run", func(w http.ResponseWriter, r *http.Request) {
		var asked task
		if json.NewDecoder(r.Body).Decode(&asked) != nil {
			w.WriteHeader(400)
			return
		}
		if asked.Meet {
			together.wait()
		}
		statuses := []int{}
		for _, url := range asked.Urls {
			statuses = append(statuses, get(url, r.Header.Get("traceparent")))
		}
		if asked.Meet {
			together.wait()
		}
		json.NewEncoder(w).Encode(map[string][]int{"statuses": statuses})
	})
	panic(http.ListenAndServe("127.0.0.1:"+os.Args[1], nil))
}
