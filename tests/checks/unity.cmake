# Configures and builds the program as launch/setup --unity does, for CPUs, in a folder of its own: SOURCE, BUILD.
foreach(command
    "${CMAKE_COMMAND};-S;${SOURCE};-B;${BUILD};-G;Ninja;-DCMAKE_BUILD_TYPE=Release;-DVIXEN_CUDA=OFF;-DVIXEN_UNITY=ON"
    "${CMAKE_COMMAND};--build;${BUILD};--target;vixen")
  execute_process(COMMAND ${command} COMMAND_ERROR_IS_FATAL ANY OUTPUT_VARIABLE said)
endforeach()
