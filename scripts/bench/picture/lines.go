package main

import (
	"encoding/json"
	"errors"
	"io"
)

// What is read of a line of scripts/bench; its own types say more.
type (
	result struct {
		Scenario string             `json:"scenario"`
		Unit     string             `json:"unit"`
		Rate     float64            `json:"per_second"`
		Delay    delay              `json:"delay_ms"`
		Costs    costs              `json:"costs"`
		Extra    map[string]float64 `json:"extra"`
	}
	delay struct {
		P50 float64 `json:"p50"`
		P99 float64 `json:"p99"`
	}
	costs struct {
		CPU        map[string]float64 `json:"cpu_us"`
		Server     float64            `json:"server_cpu_us"`
		Bytes      map[string]float64 `json:"bytes"`
		Publishes  float64            `json:"redis_publishes"`
		Commands   float64            `json:"redis_commands"`
		Statements float64            `json:"mysql_statements"`
	}
	curve struct {
		Name   string  `json:"curve"`
		Axis   string  `json:"axis"`
		Points []point `json:"points"`
	}
	point struct {
		X      float64 `json:"x"`
		Result result  `json:"result"`
	}
)

// measured is the last of each scenario and curve.
type measured struct {
	results map[string]result
	curves  map[string]curve
}

func read(r io.Reader) (measured, error) {
	m := measured{make(map[string]result), make(map[string]curve)}
	for dec := json.NewDecoder(r); ; {
		var line struct {
			Results []result `json:"results"`
			Curves  []curve  `json:"curves"`
		}
		if err := dec.Decode(&line); errors.Is(err, io.EOF) {
			return m, nil
		} else if err != nil {
			return m, err
		}
		for _, r := range line.Results {
			m.results[r.Scenario] = r
		}
		for _, c := range line.Curves {
			m.curves[c.Name] = c
		}
	}
}
