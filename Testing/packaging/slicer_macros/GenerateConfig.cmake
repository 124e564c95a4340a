# Slicer reads the extension's description here; this writes it where a test can read it.
set(_description "")
foreach(_name HOMEPAGE CONTRIBUTORS DESCRIPTION ICONURL SCREENSHOTURLS DEPENDS)
  if(NOT DEFINED EXTENSION_${_name} OR "${EXTENSION_${_name}}" STREQUAL "")
    message(FATAL_ERROR "EXTENSION_${_name} is mandatory")
  endif()
  string(APPEND _description "${_name}=${EXTENSION_${_name}}\n")
endforeach()
file(WRITE ${CMAKE_BINARY_DIR}/description.txt "NAME=${PROJECT_NAME}\n${_description}")
