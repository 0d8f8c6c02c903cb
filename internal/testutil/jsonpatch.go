package testutil

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// operation is one of RFC 6902; move and copy, which nobody here needs, are not
// known.
type operation struct {
	Op, Path string
	Value    any
}

func jsonPatch(was, patch []byte) ([]byte, error) {
	var doc any
	if err := json.Unmarshal(was, &doc); err != nil {
		return nil, err
	}
	var ops []operation
	if err := json.Unmarshal(patch, &ops); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	for _, op := range ops {
		var err error
		path := strings.Split(op.Path, "/")
		for i := range path {
			path[i] = strings.NewReplacer("~1", "/", "~0", "~").Replace(path[i])
		}
		if doc, err = op.apply(doc, path[1:]); err != nil {
			return nil, apierrors.NewGenericServerResponse(422, "patch", pods.gr(), "", err.Error(), 0, false)
		}
	}
	return json.Marshal(doc)
}

// apply carries the operation out at path below node and returns the new node.
func (op operation) apply(node any, path []string) (any, error) {
	if len(path) == 0 {
		return op.at(node)
	}
	name, rest := path[0], path[1:]
	switch n := node.(type) {
	case map[string]any:
		child, there := n[name]
		if len(rest) == 0 && op.Op == "remove" && there {
			delete(n, name)
			return n, nil
		}
		if !there && (op.Op != "add" || len(rest) > 0) {
			break
		}
		child, err := op.apply(child, rest)
		n[name] = child
		return n, err
	case []any:
		return op.element(n, name, rest)
	}
	return nil, fmt.Errorf("the server rejected our request due to an error in our request: %s operation does not apply: doc is missing path: %s", op.Op, op.Path)
}

func (op operation) element(list []any, name string, rest []string) (any, error) {
	i, err := strconv.Atoi(name)
	if name == "-" {
		i, err = len(list), nil
	}
	last := len(rest) == 0
	switch {
	case err != nil || i < 0 || i > len(list) || i == len(list) && (!last || op.Op != "add"):
		return nil, fmt.Errorf("%s operation does not apply: no element %q: %s", op.Op, name, op.Path)
	case last && op.Op == "add":
		return append(list[:i:i], append([]any{op.Value}, list[i:]...)...), nil
	case last && op.Op == "remove":
		return append(list[:i:i], list[i+1:]...), nil
	}
	list[i], err = op.apply(list[i], rest)
	return list, err
}

func (op operation) at(node any) (any, error) {
	switch op.Op {
	case "add", "replace":
		return op.Value, nil
	case "test":
		if !reflect.DeepEqual(node, op.Value) {
			return nil, fmt.Errorf("testing value %s failed", op.Path)
		}
		return node, nil
	}
	return nil, fmt.Errorf("unexpected kind of operation: %s", op.Op)
}
