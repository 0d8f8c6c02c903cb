package testutil

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func (s *server) patch(r *http.Request, res *resource, t target) ([]byte, error) {
	patch, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	kind := types.PatchType(strings.TrimSpace(strings.Split(r.Header.Get("Content-Type"), ";")[0]))
	return s.modify(res, t, func(old object) (object, error) {
		was, err := json.Marshal(old)
		if err != nil {
			return nil, err
		}
		is, err := applyPatch(kind, was, patch, res.new())
		if err != nil {
			return nil, err
		}
		o := res.new()
		if err := json.Unmarshal(is, o); err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
		return o, nil
	})
}

func applyPatch(kind types.PatchType, was, patch []byte, of object) ([]byte, error) {
	switch kind {
	case types.StrategicMergePatchType:
		is, err := strategicpatch.StrategicMergePatch(was, patch, of)
		if err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
		return is, nil
	case types.MergePatchType:
		var a, b any
		if err := json.Unmarshal(patch, &b); err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
		if err := json.Unmarshal(was, &a); err != nil {
			return nil, err
		}
		return json.Marshal(mergePatch(a, b))
	case types.JSONPatchType:
		return jsonPatch(was, patch)
	}
	return nil, &apierrors.StatusError{ErrStatus: *Fault{
		Status: http.StatusUnsupportedMediaType, Reason: "UnsupportedMediaType",
		Message: fmt.Sprintf("the body of the request was in an unknown format - accepted media types include: %s, %s, %s",
			types.JSONPatchType, types.MergePatchType, types.StrategicMergePatchType),
	}.status()}
}

// mergePatch is RFC 7386.
func mergePatch(target, patch any) any {
	p, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	t, ok := target.(map[string]any)
	if !ok {
		t = map[string]any{}
	}
	for k, v := range p {
		if v == nil {
			delete(t, k)
		} else {
			t[k] = mergePatch(t[k], v)
		}
	}
	return t
}

func sameSpec(a, b *corev1.Pod) bool { return equality.Semantic.DeepEqual(a.Spec, b.Spec) }

// wrong says what the server does not accept about o (old: what it replaces).
func (r *resource) wrong(o, old object) (errs field.ErrorList) {
	if o.GetName() == "" {
		errs = append(errs, field.Required(field.NewPath("metadata", "name"), "name or generateName is required"))
	}
	if r.invalid != nil {
		errs = append(errs, r.invalid(o, old)...)
	}
	return errs
}
