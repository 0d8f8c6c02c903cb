package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/go-vela/podlife/examples/internal/cli"
)

// Pipeline is what -f reads: steps that run one after the other, each in a
// container of one pod.
type Pipeline struct {
	Name        string `json:"name"`
	Placeholder string `json:"placeholder"` // image every container waits on until its step's turn comes
	Steps       []Step `json:"steps"`
}

// Step is one container. Commands are its args: the image's entrypoint stays.
type Step struct {
	Name     string   `json:"name"`
	Image    string   `json:"image"`
	Commands []string `json:"commands"`
}

// readPipeline reads and validates the file; its errors name the file and the
// thing that is wrong.
func readPipeline(file string) (*Pipeline, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("cannot read the pipeline: %w", err)
	}
	p, err := parsePipeline(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return p, nil
}

func parsePipeline(data []byte) (*Pipeline, error) {
	raw, err := yaml.ToJSON(data)
	if err != nil {
		return nil, fmt.Errorf("not YAML: %s", cli.OneLine(err))
	}
	p := &Pipeline{}
	dec := json.NewDecoder(strings.NewReader(string(raw)))
	dec.DisallowUnknownFields() // a misspelt key would silently drop what it says
	if err := dec.Decode(p); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("not a pipeline: %s", cli.OneLine(err))
	}
	return p, p.validate()
}

func (p *Pipeline) validate() error {
	if err := dnsLabel("name", p.Name, maxName); err != nil {
		return err
	}
	if p.Placeholder == "" {
		return errors.New("placeholder is missing: name an image that waits and exits on SIGTERM")
	}
	if len(p.Steps) == 0 {
		return errors.New("steps is empty: a pipeline needs at least one")
	}
	seen := map[string]bool{}
	for i, s := range p.Steps {
		if err := dnsLabel(fmt.Sprintf("steps[%d].name", i), s.Name, validation.DNS1123LabelMaxLength); err != nil {
			return err
		}
		switch {
		case seen[s.Name]:
			return fmt.Errorf("two steps are called %q", s.Name)
		case s.Image == "":
			return fmt.Errorf("step %q has no image", s.Name)
		case s.Image == p.Placeholder:
			return fmt.Errorf("step %q uses the placeholder's image %q: a swap to the image that already runs starts nothing", s.Name, s.Image)
		}
		seen[s.Name] = true
	}
	return nil
}

// maxName leaves room for the suffix that makes the pod's name unique.
const maxName = validation.DNS1123LabelMaxLength - len("-12345")

func dnsLabel(field, value string, maxLen int) error {
	if value == "" {
		return fmt.Errorf("%s is missing", field)
	}
	if len(value) > maxLen {
		return fmt.Errorf("%s %q is longer than %d characters", field, value, maxLen)
	}
	if errs := validation.IsDNS1123Label(value); len(errs) > 0 {
		return fmt.Errorf("%s %q: %s", field, value, errs[0])
	}
	return nil
}
