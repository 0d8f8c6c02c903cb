// Package podwatch keeps one watch for all the pods of a program.
package podwatch
