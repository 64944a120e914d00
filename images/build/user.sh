# user.sh NAME UID GID GROUPS: the notebook's user as the host knows them; GROUPS has `name:gid` lines.
# Written by hand: useradd refuses names and numbers that hosts with a directory service use.
set -eu
name=$1 uid=$2 gid=$3 groups=$4
while IFS=: read -r group number; do
    if [ -n "$group" ] && ! grep -q "^$group:\|^[^:]*:[^:]*:$number:" /etc/group; then
        printf '%s:x:%s:%s\n' "$group" "$number" "$name" >> /etc/group
    fi
done < "$groups"
if ! grep -q "^[^:]*:[^:]*:$gid:" /etc/group; then
    printf '%s:x:%s:\n' "$name" "$gid" >> /etc/group
fi
sed -i "/^$name:/d;/^[^:]*:[^:]*:$uid:/d" /etc/passwd
printf '%s:x:%s:%s:jupbox:/home/%s:/bin/bash\n' "$name" "$uid" "$gid" "$name" >> /etc/passwd
home=/home/$name
mkdir -p "$home/notebooks" /run/jupbox /etc/jupbox/seal
if [ -d /etc/skel ]; then
    cp -r /etc/skel/. "$home"
fi
chown -R "$uid:$gid" "$home" /run/jupbox /etc/jupbox/seal
chmod 0700 "$home" /run/jupbox /etc/jupbox/seal
# apt's and others' account databases; a lock file would be the only other trace
rm -f /etc/passwd- /etc/group- /etc/.pwd.lock
