#!/bin/sh
# 101: this action is forbidden (invoke-rc.d(8)).
exit 101
