package monitor_test

import (
	"fmt"

	"github.com/vitrine-dev/vitrine/monitor"
)

// Whoever is woken by an alert is told what it means and what to do.
func ExampleCode_Info() {
	alert := monitor.Alert{Number: 7, Code: monitor.ChannelRollback, Detail: "channel statement stable number 4 comes after number 5"}
	info, _ := alert.Code.Info()
	fmt.Println(alert.Detail)
	fmt.Println(info.Mend)
	// Output:
	// channel statement stable number 4 comes after number 5
	// Ask whoever signs the channel: either two machines sign at once, or somebody brings an older list back.
}
