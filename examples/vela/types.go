package vela

// Build mirrors Vela's pipeline.Build.
type Build struct {
	ID    string
	Steps []*Container
}

// Container mirrors Vela's pipeline.Container.
type Container struct {
	ID       string
	Image    string
	Commands []string
	ExitCode int32
}
