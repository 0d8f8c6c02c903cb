package testutil

import (
	"encoding/json"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// invalidFunc says what is wrong with o; old is nil when o is new.
type invalidFunc func(o, old object) field.ErrorList

func invalidPod(o, old object) field.ErrorList {
	p := o.(*corev1.Pod)
	if old != nil {
		return invalidPodUpdate(p, old.(*corev1.Pod))
	}
	return invalidNewPod(p)
}

func invalidNewPod(p *corev1.Pod) (errs field.ErrorList) {
	spec, seen := field.NewPath("spec"), map[string]bool{}
	if len(p.Spec.Containers) == 0 {
		errs = append(errs, field.Required(spec.Child("containers"), ""))
	}
	check := func(list string, cs []corev1.Container) {
		for i, c := range cs {
			at := spec.Child(list).Index(i)
			if c.Name == "" {
				errs = append(errs, field.Required(at.Child("name"), ""))
			}
			for _, msg := range validation.IsDNS1123Label(c.Name) {
				errs = append(errs, field.Invalid(at.Child("name"), c.Name, msg))
			}
			if seen[c.Name] {
				errs = append(errs, field.Duplicate(at.Child("name"), c.Name))
			}
			seen[c.Name] = true
			if c.Image == "" {
				errs = append(errs, field.Required(at.Child("image"), ""))
			}
		}
	}
	check("initContainers", p.Spec.InitContainers)
	check("containers", p.Spec.Containers)
	return errs
}

// invalidPodUpdate refuses to change what is fixed once a pod exists
// (kubernetes v1.36.3 pkg/apis/core/validation, ValidatePodUpdate).
func invalidPodUpdate(p, old *corev1.Pod) (errs field.ErrorList) {
	for i, c := range p.Spec.Containers {
		if c.Image == "" {
			errs = append(errs, field.Required(field.NewPath("spec", "containers").Index(i).Child("image"), ""))
		}
	}
	spec := field.NewPath("spec")
	if len(p.Spec.Containers) != len(old.Spec.Containers) || len(p.Spec.InitContainers) != len(old.Spec.InitContainers) {
		return append(errs, field.Forbidden(spec.Child("containers"), "pod updates may not add or remove containers"))
	}
	if old.Spec.NodeName != "" && len(p.Spec.SchedulingGates) > len(old.Spec.SchedulingGates) {
		errs = append(errs, field.Forbidden(spec.Child("schedulingGates"), "only deletion is allowed"))
	}
	fixed := p.Spec.DeepCopy() // with every field that may change as it was
	for i := range fixed.Containers {
		fixed.Containers[i].Image = old.Spec.Containers[i].Image
	}
	for i := range fixed.InitContainers {
		fixed.InitContainers[i].Image = old.Spec.InitContainers[i].Image
	}
	fixed.ActiveDeadlineSeconds = old.Spec.ActiveDeadlineSeconds
	fixed.Tolerations = old.Spec.Tolerations
	fixed.SchedulingGates = old.Spec.SchedulingGates
	if g := old.Spec.TerminationGracePeriodSeconds; g != nil && *g < 0 {
		fixed.TerminationGracePeriodSeconds = g
	}
	if !equality.Semantic.DeepEqual(*fixed, old.Spec) {
		was, _ := json.Marshal(old.Spec)
		is, _ := json.Marshal(fixed)
		errs = append(errs, field.Forbidden(spec, "pod updates may not change fields other than `spec.containers[*].image`,"+
			"`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"+
			"`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n"+
			"- "+string(was)+"\n+ "+string(is)))
	}
	return errs
}
