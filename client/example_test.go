package client_test

import (
	"context"
	"fmt"

	"github.com/millrace/millrace/client"
)

func Example() {
	c, err := client.New(client.Config{Hosts: []string{serve()}}) // "flume:4141"
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	err = c.AppendBatch(context.Background(), []client.Event{
		{Headers: map[string]string{"app": "shop"}, Body: []byte("one")},
		{Headers: map[string]string{"app": "shop"}, Body: []byte("two")},
	})
	fmt.Println("delivered:", err == nil)
	// Output: delivered: true
}
