# cmake -DINPUT=FILE -DOUTPUT=FILE.cpp -DHEADER=HEADER.hpp -DNAME=kName -P EmbedText.cmake: a text file as a C++ constant.
file(READ "${INPUT}" text)
string(FIND "${text}" ")VIXEN\"" end_mark)
if(NOT end_mark EQUAL -1)
  message(FATAL_ERROR "${INPUT}: holds the mark that ends the raw string")
endif()
file(WRITE "${OUTPUT}.part" "#include \"${HEADER}\"\n\nnamespace vixen {\n\nconst std::string_view ${NAME} = R\"VIXEN(${text})VIXEN\";\n\n}  // namespace vixen\n")
file(RENAME "${OUTPUT}.part" "${OUTPUT}")
