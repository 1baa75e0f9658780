package measure

import (
	"encoding/binary"
	"fmt"
	"io"
)

// A guid is in the mixed-endian form in which firmware stores it.
type guid [16]byte

// mustGUID parses the usual notation; it is for constants.
func mustGUID(s string) guid {
	var a uint32
	var b, c, d uint16
	var e uint64
	if n, err := fmt.Sscanf(s, "%08x-%04x-%04x-%04x-%012x", &a, &b, &c, &d, &e); n != 5 || err != nil {
		panic("measure: malformed GUID " + s)
	}
	var g guid
	binary.LittleEndian.PutUint32(g[0:], a)
	binary.LittleEndian.PutUint16(g[4:], b)
	binary.LittleEndian.PutUint16(g[6:], c)
	binary.BigEndian.PutUint64(g[8:], uint64(d)<<48|e)
	return g
}

var (
	guidSystemNVData   = mustGUID("fff12b8d-7696-4c8b-a985-2747075b4f50")
	guidAuthVariables  = mustGUID("aaf32c78-947b-439a-a180-2e144ec37792")
	guidGlobalVariable = mustGUID("8be4df61-93ca-11d2-aa0d-00e098032b8c")
	guidImageSecurity  = mustGUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f")
)

const (
	// maxVarsSize is the largest VARS file that is read.
	maxVarsSize = 16 << 20
	// variableHeaderLength is the length of AUTHENTICATED_VARIABLE_HEADER
	// (EDK2, MdeModulePkg/Include/Guid/VariableFormat.h).
	variableHeaderLength = 60
	variableStart        = 0x55aa
	// variableAdded is the state of a variable in force (VAR_ADDED).
	variableAdded = 0x3f
	// variableReplaced is that of one whose update has begun
	// (VAR_IN_DELETED_TRANSITION): in force unless its successor was added.
	variableReplaced = 0x3e
)

// variableName identifies a UEFI variable.
type variableName struct {
	vendor guid
	name   string
}

// parseVars reads the variables that are in force in an OVMF VARS file: a
// firmware volume that holds a store of authenticated variables (PI 1.7,
// volume 3, 3.2.1; EDK2 VariableFormat.h).
func parseVars(file *io.SectionReader) (map[variableName][]byte, error) {
	if file.Size() > maxVarsSize {
		return nil, fmt.Errorf("the file of variables is %d bytes long, and at most %d are allowed", file.Size(), maxVarsSize)
	}
	b, err := readAt(file, 0, file.Size(), "the file of variables")
	if err != nil {
		return nil, err
	}
	const volumeFixed = 56
	if len(b) < volumeFixed || guid(b[16:32]) != guidSystemNVData || string(b[40:44]) != "_FVH" {
		return nil, fmt.Errorf("no OVMF VARS file: no firmware volume of non-volatile data begins at offset 0")
	}
	at := int(binary.LittleEndian.Uint16(b[48:]))
	const storeHeader = 28
	if at < volumeFixed || at > len(b)-storeHeader {
		return nil, fmt.Errorf("the firmware volume header says it is %d bytes long, which leaves no room for a variable store", at)
	}
	store := b[at:]
	if guid(store[:16]) != guidAuthVariables {
		return nil, fmt.Errorf("the variable store at offset %#x is not one of authenticated variables", at)
	}
	size := binary.LittleEndian.Uint32(store[16:])
	// 0x5a and 0xfe are VARIABLE_STORE_FORMATTED and VARIABLE_STORE_HEALTHY.
	if size < storeHeader || uint64(size) > uint64(len(store)) || store[20] != 0x5a || store[21] != 0xfe {
		return nil, fmt.Errorf("the variable store at offset %#x, %d bytes long, is damaged or ends outside the file", at, size)
	}
	return parseVariables(store[:size], storeHeader)
}

func parseVariables(store []byte, at int) (map[variableName][]byte, error) {
	variables := make(map[variableName][]byte)
	replaced := make(map[variableName][]byte)
	for len(store)-at >= variableHeaderLength {
		header := store[at : at+variableHeaderLength]
		if binary.LittleEndian.Uint16(header) != variableStart {
			break
		}
		nameLength := binary.LittleEndian.Uint32(header[36:])
		dataLength := binary.LittleEndian.Uint32(header[40:])
		room := uint64(len(store) - at - variableHeaderLength)
		if uint64(nameLength)+uint64(dataLength) > room {
			return nil, fmt.Errorf("the variable at offset %#x of the store has %d bytes of name and %d of data, and only %d are left", at, nameLength, dataLength, room)
		}
		if nameLength%2 != 0 || nameLength < 2 {
			return nil, fmt.Errorf("the variable at offset %#x of the store has a name of %d bytes, which is no UTF-16 string", at, nameLength)
		}
		nameAt := at + variableHeaderLength
		dataAt := nameAt + int(nameLength)
		end := dataAt + int(dataLength)
		key := variableName{guid(header[44:60]), string(store[nameAt : dataAt-2])}
		switch header[2] {
		case variableAdded:
			if _, twice := variables[key]; twice {
				return nil, fmt.Errorf("the variable at offset %#x of the store is there a second time", at)
			}
			variables[key] = store[dataAt:end]
		case variableReplaced:
			replaced[key] = store[dataAt:end]
		}
		at = (end + 3) &^ 3
	}
	for key, data := range replaced {
		if _, renewed := variables[key]; !renewed {
			variables[key] = data
		}
	}
	return variables, nil
}

// variableData is the UEFI_VARIABLE_DATA structure whose digest stands for a
// variable (TCG PC Client Platform Firmware Profile 10.2.6). An absent variable
// is measured with data of length zero.
func variableData(v variableName, data []byte) []byte {
	var b []byte
	b = append(b, v.vendor[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(v.name))/2)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(data)))
	b = append(b, v.name...)
	return append(b, data...)
}
